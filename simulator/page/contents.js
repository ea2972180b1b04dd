// What is more than text in a bubble (`content` in chats.py): pictures, files, places, articles, menus.

import { attempt } from "./net.js";
import { anchor, button, el, icon, isWeb, sizeOf } from "./dom.js";
import { drawCard } from "./cards.js";
import { render } from "./markdown.js";
import { isCustomer, plain, speakerName, view } from "./state.js";
import { enlarge } from "./viewer.js";

const PLAY = "M8 5v14l11-7z";
const SAVE = "M11 4h2v8l3-3 1.400 1.400L12 16l-5.400-5.600L8 9l3 3zM5 18h14v2H5z";
const PIN = "M12 2a7 7 0 0 0-7 7c0 5 7 13 7 13s7-8 7-13a7 7 0 0 0-7-7zm0 9.500a2.500 2.500 0 1 1 0-5 2.500 2.500 0 0 1 0 5z";

// Of this simulator's own store; nothing else is loaded by the page.
const isOwn = (address) => /^\/media\/[\w-]+$/.test(address || "");
const ownPath = (address) => {
  if (isOwn(address)) return address;
  try {
    const url = new URL(address);
    return url.origin === location.origin && isOwn(url.pathname) ? url.pathname : "";
  } catch {
    return "";
  }
};

export function picture(address, name, className = "picture") {
  const path = ownPath(address);
  if (!path) return el("div", `${className} away`, el("span", "", "图片"), el("small", "", isWeb(address) ? new URL(address).host : name || ""));
  const image = el("img");
  Object.assign(image, { src: path, alt: name || "图片", loading: "lazy", decoding: "async" });
  const node = button("", className, () => enlarge(path, name), `放大图片 ${name || ""}`);
  node.append(image);
  image.addEventListener("error", () => { node.replaceWith(el("div", `${className} away`, el("span", "", "图片无法显示"), el("small", "", name || ""))); });
  return node;
}

function save(content, ...children) {
  const node = el("a", "download", ...children);
  node.href = isOwn(content.url) ? content.url : "#";
  node.download = content.name || "";
  node.title = "下载";
  return node;
}

function voice(content) {
  const box = el("div", "voice");
  if (/\.(mp3|wav|m4a|ogg)$/i.test(content.name || "") && isOwn(content.url)) {
    const player = el("audio");
    Object.assign(player, { src: content.url, controls: true, preload: "none" });
    box.append(player);
  } else {
    // AMR of 12.2 kbit/s, 32 bytes each 20 ms; browsers do not play it.
    const seconds = Math.max(1, Math.round(((content.size || 0) - 6) / 1600));
    const bar = el("div", "wave", icon(PLAY), el("span", "bars", ...Array.from({ length: Math.min(18, 6 + seconds) }, () => el("i"))), el("span", "seconds", `${seconds}″`));
    if (isOwn(content.url)) bar.append(save(content, icon(SAVE)));
    box.append(bar);
  }
  if (content.text) box.append(el("p", "heard", content.text));
  return box;
}

function video(content) {
  const player = el("video");
  Object.assign(player, { controls: true, preload: "metadata" });
  if (isOwn(content.url)) player.src = content.url;
  return el("div", "film", player, el("div", "caption", el("span", "", content.name || "视频"), save(content, sizeOf(content.size || 0), icon(SAVE))));
}

const EXTENSIONS = { doc: "word", docx: "word", xls: "sheet", xlsx: "sheet", csv: "sheet", ppt: "slides", pptx: "slides", pdf: "pdf", zip: "pack", rar: "pack" };

function file(content) {
  const extension = (/\.([a-z0-9]{1,5})$/i.exec(content.name || "") || ["", ""])[1].toLowerCase();
  const about = el("div", "about", el("b", "", content.name || "文件"), el("small", "", `${sizeOf(content.size || 0)} · 点击下载`));
  return save(content, el("div", "file", about, el("span", `paper ${EXTENSIONS[extension] || ""}`, extension.toUpperCase() || "FILE")));
}

function news(content) {
  const [first, ...rest] = content.articles || [];
  if (!first) return el("span");
  const lead = anchor(first.url, "lead");
  if (first.picurl || first.url) lead.append(picture(first.picurl, "", "cover"));
  lead.append(el("b", "", first.title || ""), el("p", "", first.description || ""));
  // A picture inside of a link opens the link.
  for (const inner of lead.querySelectorAll("button")) inner.replaceWith(...inner.childNodes);
  return el("div", "news", lead, ...rest.map((one) => anchor(one.url, "article", el("span", "", one.title || ""), el("i", "thumb"))));
}

function link(content) {
  const address = content.url || content.link || "";
  const about = el("div", "about", el("b", "", content.title || address), el("p", "", content.desc || content.description || ""), el("small", "", isWeb(address) ? new URL(address).host : ""));
  return anchor(address, "linkcard", about, el("i", "thumb", icon("M10 13a4 4 0 0 0 6 .5l3-3a4 4 0 0 0-5.700-5.700L11.700 6.400l1.400 1.400 1.600-1.500a2 2 0 0 1 2.800 2.800l-3 3a2 2 0 0 1-3-.2zm4-2a4 4 0 0 0-6-.5l-3 3a4 4 0 0 0 5.700 5.700l1.600-1.600-1.400-1.400-1.600 1.500a2 2 0 0 1-2.800-2.800l3-3a2 2 0 0 1 3 .2z")));
}

function place(content) {
  const name = content.name || content.label || "位置";
  const where = [content.latitude, content.longitude].filter((value) => value !== undefined && value !== "").join(", ");
  return el("div", "location", el("b", "", name), el("p", "", content.address || ""), el("div", "map", icon(PIN, "pin")), el("small", "", where));
}

function textcard(content) {
  const words = String(content.description || "").replace(/<div[^>]*>/g, "\n").replace(/<[^<>]{1,200}>/g, "").trim();
  return el("div", "textcard", el("b", "", content.title || ""), el("p", "", words), anchor(content.url, "more", `${content.btntxt || "详情"} ›`));
}

function program(content) {
  const rows = (content.content_item || []).map((one) => el("div", "pair", el("span", "", one.key), el("span", "", one.value)));
  return el("div", "textcard", el("small", "", "小程序"), el("b", "", content.title || content.appid || ""), el("p", "", content.description || ""), ...rows);
}

// The menu of customer service: entries are answers of the customer, addresses, or texts.
function menu(content, bubble) {
  const mine = isCustomer(view.me.id);
  const items = (content.items || []).map((item) => {
    if (item.type === "click" && mine) return button(item.content, "item click", () => attempt("/api/choose", { person: view.me.id, chat: bubble.chat, label: item.content }));
    if (item.type === "view") return anchor(item.url, "item view", item.content);
    return el("span", `item ${item.type}`, item.content);
  });
  return el("div", "kfmenu", content.head ? el("p", "", content.head) : "", ...items, content.tail ? el("p", "tail", content.tail) : "");
}

function mixed(content, bubble, pane) {
  const isReply = bubble.look === "stream" || bubble.look === "markdown";
  const box = el("div", "mixed");
  if (isReply) {
    const words = el("div", "md");
    words.append(render(bubble.text.replace(/\n*\[图片 ×\d+\]$/, "")));
    box.append(words);
  }
  box.append(...(content.items || []).map((item) => (item.kind === "text" ? el("p", "", item.text) : draw(item, bubble, pane))));
  return box;
}

function quote(content, bubble) {
  return el("div", "", el("div", "words", bubble.text), el("div", "quoted", el("b", "", `${speakerName(content.by || "")}：`), plain(content.quoted || "")));
}

const DRAWERS = {
  card: (content, bubble, pane) => drawCard(content, bubble, pane, picture),
  image: (content) => picture(content.url, content.name),
  voice, video, file, news, link, textcard, menu, mixed, quote, location: place, miniprogram: program,
};

// Kinds that fill the bubble to its edges, so that it has no padding and no ground of its own.
export const isBare = (content) => ["image", "video", "file", "location", "link", "news"].includes(content?.kind);

function draw(content, bubble, pane) {
  const drawer = DRAWERS[content.kind];
  return drawer ? drawer(content, bubble, pane) : el("span", "", bubble.text);
}

// In a group, one's own card may have changed.
export function drawContent(bubble, pane) {
  const content = bubble.content.by?.[view.me.id] || bubble.content;
  return draw(content, bubble, pane);
}
