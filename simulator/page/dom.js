// Nodes. Foreign text only ever becomes text nodes and properties, never markup.

export const $ = (id) => document.getElementById(id);

export const el = (name, className, ...children) => {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
};

export const button = (label, className, onClick, title = "") => {
  const node = el("button", className, label);
  node.type = "button";
  if (title) { node.title = title; node.setAttribute("aria-label", title); }
  node.addEventListener("click", onClick);
  return node;
};

const SVG = "http://www.w3.org/2000/svg";

export function icon(path, className = "icon") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS(SVG, "path");
  shape.setAttribute("d", path);
  shape.setAttribute("fill-rule", "evenodd");
  svg.append(shape);
  return svg;
}

// Only addresses of the web are opened, and never in this page's name.
export const isWeb = (address) => /^https?:\/\/[^\s]+$/.test(address || "");

export function anchor(address, className, ...children) {
  if (!isWeb(address)) return el("span", className, ...children);
  const node = el("a", className, ...children);
  node.href = address;
  node.target = "_blank";
  node.rel = "noopener noreferrer nofollow";
  return node;
}

export const field = (label, value = "", type = "text") => {
  const input = el("input");
  input.type = type;
  input.value = value;
  return [el("label", "field", el("span", "", label), input), input];
};

// --- times and sizes ---

const two = (value) => String(value).padStart(2, "0");

export const clock = (seconds, full) => {
  const date = new Date(seconds * 1000);
  return `${two(date.getHours())}:${two(date.getMinutes())}${full ? `:${two(date.getSeconds())}` : ""}`;
};

export const sizeOf = (bytes) => (bytes < 1024 ? `${bytes} B` : bytes < 1048576 ? `${(bytes / 1024).toFixed(1)} KB` : `${(bytes / 1048576).toFixed(1)} MB`);

// --- short words to the developer ---

let toastTimer = 0;
export function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, 3500);
}

// One small window at a time: it opens above what was touched, and closes with Esc or a click elsewhere.
let opened = null;
export function popover(anchorNode, ...children) {
  const same = opened && opened.anchor === anchorNode;
  closePopover();
  if (same) return null;
  const node = el("div", "popover", ...children);
  node.setAttribute("role", "dialog");
  document.body.append(node);
  const at = anchorNode.getBoundingClientRect();
  const size = node.getBoundingClientRect();
  const above = at.top - size.height - 6;
  node.style.setProperty("left", `${Math.max(8, Math.min(at.left, innerWidth - size.width - 8))}px`);
  node.style.setProperty("top", `${above > 8 ? above : Math.min(at.bottom + 6, innerHeight - size.height - 8)}px`);
  opened = { node, anchor: anchorNode };
  (node.querySelector("input, textarea, button") || node).focus?.();
  return node;
}
export function closePopover() {
  if (!opened) return false;
  opened.node.remove();
  opened = null;
  return true;
}
document.addEventListener("pointerdown", (event) => {
  if (opened && !opened.node.contains(event.target) && !opened.anchor.contains(event.target)) closePopover();
});
