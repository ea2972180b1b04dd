// A picture in its own size.

import { $ } from "./dom.js";

export function enlarge(path, name) {
  const image = $("viewer-image");
  image.src = path;
  image.alt = name || "图片";
  $("viewer-save").href = path;
  $("viewer-save").download = name || "";
  $("viewer-name").textContent = name || "";
  $("viewer").showModal();
}

$("viewer").addEventListener("click", (event) => { if (event.target.tagName !== "A") $("viewer").close(); });
