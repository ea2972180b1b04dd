// The chat page: one developer, several people, and what the platform shows each of them.
// State comes from /api/state and /api/bubbles once, and then from /api/feed as it changes.

import { render } from "./markdown.js";

const $ = (id) => document.getElementById(id);
const el = (name, className, ...children) => {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
};
const button = (label, className, onClick) => {
  const node = el("button", className, label);
  node.type = "button";
  node.addEventListener("click", onClick);
  return node;
};

const wish = new URLSearchParams(location.search);
const state = { people: [], apps: [], bots: [], groups: [], faults: [], switches: {}, struck: {} };
const bubbles = new Map(); // "chat|owner" → Map(number → bubble)
const unread = new Map(); // "chat|person" → count
const entries = []; // the newest last, at most ENTRIES
const ENTRIES = 2000;
const BUBBLES = 500;
const panes = []; // [{chat, …}] application left, bot or group right
let me = null;
let front = 0;
let stripOn = wish.has("strip") || localStorage.getItem("strip") === "1";
let tab = wish.get("panel") || "faults";

const kindOf = (chat) => chat.split(":", 1)[0];
const nameOf = (chat) => chat.slice(chat.indexOf(":") + 1);
const ownerOf = (chat, person) => (kindOf(chat) === "group" ? "" : person);
const key = (chat, person) => `${chat}|${ownerOf(chat, person)}`;
const personById = (id) => state.people.find((person) => person.id === id);
const titleOf = (chat) => (me.chats.find(([found]) => found === chat) || [chat, chat])[1];

// --- talking to the simulator ---

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error || `HTTP ${answer.status}`);
  return value;
}

async function attempt(path, body) {
  try {
    return await ask(path, body);
  } catch (error) {
    toast(error instanceof TypeError ? "模拟器没有应答" : `未成功：${error.message}`);
    return null;
  }
}

let toastTimer = 0;
function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, 3500);
}

// --- small pictures ---

const ICONS = {
  app: "M5 5h6v6H5zM13 5h6v6h-6zM5 13h6v6H5zM13 13h6v6h-6z",
  bot: "M11 3h2v3h4a2 2 0 0 1 2 2v9a2 2 0 0 1-2 2H7a2 2 0 0 1-2-2V8a2 2 0 0 1 2-2h4zM8.5 10.5v3h2v-3zM13.5 10.5v3h2v-3z",
  group: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zm8 0a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM2 18c0-3 3-5 6-5s6 2 6 5v1H2zm13.5 1H22v-1c0-2.700-2.600-4.800-5.500-5-.7 0-1.400.1-2 .4 1.200 1.100 2 2.600 2 4.300z",
};

function avatar(speaker) {
  const kind = speaker.includes(":") ? kindOf(speaker) : "";
  if (!kind) {
    const person = personById(speaker);
    const at = state.people.findIndex((found) => found.id === speaker);
    return el("div", `avatar h${(at < 0 ? 7 : at) % 8}`, (person ? person.name : speaker).slice(-2));
  }
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[kind]);
  path.setAttribute("fill", "#fff");
  path.setAttribute("fill-rule", "evenodd");
  svg.append(path);
  return el("div", `avatar ${kind}`, svg);
}

function speakerName(speaker) {
  if (!speaker.includes(":")) return (personById(speaker) || { name: speaker }).name;
  const found = kindOf(speaker) === "app" ? state.apps.find((app) => String(app.id) === nameOf(speaker)) : state.bots.find((bot) => bot.id === nameOf(speaker));
  return found ? found.name : speaker;
}

const two = (value) => String(value).padStart(2, "0");
const clock = (seconds, full) => {
  const date = new Date(seconds * 1000);
  return `${two(date.getHours())}:${two(date.getMinutes())}${full ? `:${two(date.getSeconds())}` : ""}`;
};
const brief = (bubble) => (bubble.expired ? "[回复超时]" : (bubble.text || bubble.thoughts || "…").replace(/[#*`>|]+/g, "").replace(/\s+/g, " ").slice(0, 40));

// --- people and chats ---

function drawRail() {
  $("rail").replaceChildren(...state.people.map((person, index) => {
    const node = button("", "person", () => become(person.id));
    node.append(avatar(person.id), el("span", "", person.name));
    node.title = `${person.name}(${person.id})· Alt+${index + 1}`;
    node.setAttribute("aria-current", String(person === me));
    const count = [...unread].reduce((sum, [where, found]) => sum + (where.endsWith(`|${person.id}`) ? found : 0), 0);
    if (count && person !== me) node.append(el("span", "badge", count > 99 ? "99+" : String(count)));
    return node;
  }));
}

function drawList() {
  $("me").textContent = me.name;
  $("me-title").textContent = me.title;
  $("chats").replaceChildren(...me.chats.map(([chat, name]) => {
    const last = [...(bubbles.get(key(chat, me.id)) || new Map()).values()].at(-1);
    const node = button("", "chat", () => show(chat));
    const about = el("div", "about", el("div", "top", el("span", "name", name), el("time", "", last ? clock(last.created_at) : "")), el("div", "last", last ? brief(last) : ""));
    node.append(avatar(chat), about);
    const at = panes.findIndex((pane) => pane.chat === chat);
    node.setAttribute("aria-current", at === front ? "page" : String(at >= 0));
    const count = unread.get(`${chat}|${me.id}`) || 0;
    if (count) node.append(el("span", "badge", String(count)));
    return node;
  }));
}

async function become(id) {
  me = personById(id) || state.people[0];
  localStorage.setItem("person", me.id);
  const all = await attempt(`/api/bubbles?person=${encodeURIComponent(me.id)}`);
  for (const [chat, found] of Object.entries(all || {})) bubbles.set(key(chat, me.id), merged(found, bubbles.get(key(chat, me.id))));
  const keep = panes.map((pane) => pane.chat);
  panes.length = 0;
  const first = (...kinds) => (me.chats.find(([chat]) => keep.includes(chat) && kinds.includes(kindOf(chat))) || me.chats.find(([chat]) => kinds.includes(kindOf(chat))) || [])[0];
  for (const chat of [first("app"), first("bot", "group")]) if (chat) panes.push(makePane(chat));
  if (!panes.length) for (const [chat] of me.chats.slice(0, 2)) panes.push(makePane(chat));
  front = Math.min(front, panes.length - 1);
  drawPanes();
  await loadEntries();
  for (const pane of panes) opened(pane.chat);
}

// What was asked for and what the stream of changes brought meanwhile may cross: the newer version stays.
function merged(found, known = new Map()) {
  const all = new Map(found.map((bubble) => [bubble.number, bubble]));
  const last = found.length ? found.at(-1).number : 0;
  for (const [number, bubble] of known) {
    const other = all.get(number);
    if (other ? (bubble.version || 0) > (other.version || 0) : number > last) all.set(number, bubble);
  }
  return all;
}

function show(chat) {
  let at = panes.findIndex((pane) => pane.chat === chat);
  if (at < 0) {
    at = kindOf(chat) === "app" || panes.length < 2 ? 0 : 1;
    panes[at] = makePane(chat);
  }
  front = at;
  drawPanes();
  opened(chat);
  panes[at].box.focus();
}

function opened(chat) {
  unread.delete(`${chat}|${me.id}`);
  drawRail();
  drawList();
  if (kindOf(chat) !== "group") attempt("/api/enter", { person: me.id, chat });
}

// --- a conversation ---

function makePane(chat) {
  const pane = { chat, rows: new Map(), lastTime: 0 };
  pane.node = el("section", "pane");
  pane.link = el("span", "link");
  pane.sub = el("p");
  pane.header = el("header", "", avatar(chat), el("div", "title", el("h2", "", titleOf(chat)), pane.sub), pane.link);
  pane.log = el("div", "log");
  pane.log.setAttribute("aria-live", "polite");
  // Whoever reads the end keeps reading the end when the pane changes its size.
  pane.stuck = true;
  pane.log.addEventListener("scroll", () => { pane.stuck = isNearEnd(pane); });
  const atEnd = new ResizeObserver(() => {
    if (pane.stuck) pane.log.scrollTop = pane.log.scrollHeight;
    pane.strip.scrollTop = pane.strip.scrollHeight;
  });
  atEnd.observe(pane.log);
  pane.strip = el("div", "strip");
  pane.composer = makeComposer(pane);
  pane.node.append(pane.header, pane.log, pane.strip, pane.composer);
  fill(pane);
  return pane;
}

function fill(pane) {
  pane.log.replaceChildren();
  pane.rows.clear();
  pane.lastTime = 0;
  const found = [...(bubbles.get(key(pane.chat, me.id)) || new Map()).values()];
  if (!found.length) pane.log.append(emptyHint(pane));
  for (const bubble of found) place(pane, bubble);
  pane.log.scrollTop = pane.log.scrollHeight;
  drawHead(pane);
}

function emptyHint(pane) {
  const kind = kindOf(pane.chat);
  const hints = {
    app: ["自建应用会话。消息以加密回调送达应用，应用通过消息接口回复，长文本按 2048 字节截断。", ["你好，请介绍一下你自己", "年假怎么申请？", "/new"]],
    bot: ["智能机器人会话。消息经长连接送达，回复以流式气泡逐步展开，支持 Markdown。", ["你好，请介绍一下你自己", "用表格比较两种报销方式", "写一段 Python 示例代码"]],
    group: ["群聊。机器人只看得到提及它的消息，输入 @ 选择。", []],
  };
  const [text, tries] = hints[kind];
  const row = el("div", "tries", ...tries.map((one) => button(one, "", () => { pane.box.value = one; pane.box.dispatchEvent(new Event("input")); pane.box.focus(); })));
  return el("div", "empty", el("b", "", "?"), el("p", "", text), row, el("p", "", "按 ? 查看快捷键"));
}

function drawHead(pane) {
  const kind = kindOf(pane.chat);
  if (kind === "app") {
    const app = state.apps.find((found) => String(found.id) === nameOf(pane.chat));
    pane.sub.textContent = "自建应用 · 回调与消息接口";
    linkState(pane, Boolean(app && app.url), "已配置回调", "未配置回调");
  } else {
    const group = state.groups.find((found) => found.id === nameOf(pane.chat));
    const bot = group ? state.bots.find((found) => found.name === group.bot) : state.bots.find((found) => found.id === nameOf(pane.chat));
    pane.sub.textContent = group ? `群聊 · ${group.members.length} 人与 ${group.bot}` : "智能机器人 · 长连接";
    linkState(pane, Boolean(bot && bot.connected), "长连接在线", "长连接离线");
  }
}

function linkState(pane, on, yes, no) {
  pane.link.classList.toggle("on", on);
  pane.link.textContent = on ? yes : no;
}

const isNearEnd = (pane) => pane.log.scrollHeight - pane.log.scrollTop - pane.log.clientHeight < 80;

function place(pane, bubble) {
  const near = isNearEnd(pane);
  const old = pane.rows.get(bubble.number);
  const node = drawBubble(pane, bubble, old);
  if (old) {
    old.replaceWith(node);
  } else {
    pane.log.querySelector(".empty")?.remove();
    if (bubble.created_at - pane.lastTime > 300) pane.log.append(el("div", "day", clock(bubble.created_at)));
    pane.lastTime = bubble.created_at;
    pane.log.append(node);
  }
  pane.rows.set(bubble.number, node);
  if (pane.rows.size > BUBBLES) {
    const [number, first] = pane.rows.entries().next().value;
    first.remove();
    pane.rows.delete(number);
  }
  if (near) pane.log.scrollTop = pane.log.scrollHeight;
}

function drawBubble(pane, bubble, old) {
  const mine = bubble.speaker === me.id;
  const box = el("div", "bubble");
  if (bubble.recalled) box.classList.add("recalled");
  const isMarkdown = bubble.look === "markdown" || bubble.look === "stream";
  if (bubble.thoughts) box.append(thoughts(bubble, old));
  if (isMarkdown && !bubble.recalled) {
    const md = el("div", "md");
    md.append(render(bubble.text));
    box.append(md);
  } else {
    box.classList.add(bubble.look === "card" ? "card" : "plain");
    box.append(bubble.text);
  }
  if (bubble.lost_bytes) box.append(el("span", "cutmark", `✂ 超出上限，末尾 ${bubble.lost_bytes} 字节被平台截断`));
  if (bubble.expired) box.append(el("div", "expired", "回复超时，内容未能完整显示"));
  else if (bubble.finished === false) box.append(el("span", "typing", el("i"), el("i"), el("i")));
  const col = el("div", "col");
  if (!mine) col.append(who(bubble));
  col.append(box);
  const notes = drawNotes(bubble, mine);
  if (notes.length) col.append(el("div", "notes", ...notes));
  return el("div", mine ? "row mine" : "row", avatar(bubble.speaker), col);
}

function who(bubble) {
  const node = el("div", "who", speakerName(bubble.speaker));
  if (bubble.speaker.includes(":")) node.append(el("span", "tag", kindOf(bubble.speaker) === "app" ? "应用" : "机器人"));
  return node;
}

function thoughts(bubble, old) {
  const before = old && old.querySelector("details.think");
  const node = el("details", "think", el("summary", "", bubble.text ? "已完成思考" : "思考中…"), el("div", "", bubble.thoughts.trim()));
  // Folded once the answer begins, unless the reader opened it.
  node.open = before ? before.open && (Boolean(before.dataset.kept) || !bubble.text) : !bubble.text;
  if (before && before.dataset.kept) { node.open = before.open; node.dataset.kept = "1"; }
  node.firstChild.addEventListener("click", () => { node.dataset.kept = "1"; });
  return node;
}

function drawNotes(bubble, mine) {
  const notes = [];
  const delivery = mine && deliveries.get(bubble.msg_id);
  if (delivery) notes.push(el("span", delivery[1], delivery[0]));
  if (bubble.suppressed) notes.push(el("span", "good", `重复请求已抑制 ×${bubble.suppressed}`));
  if (stripOn && bubble.look === "stream" && bubble.sent > 1) notes.push(el("span", "", `流式刷新 ${bubble.sent} 次`));
  return notes;
}

// --- writing ---

function makeComposer(pane) {
  const kind = kindOf(pane.chat);
  const box = el("textarea");
  pane.box = box;
  box.placeholder = kind === "group" ? "输入 @ 提及机器人" : "输入消息，Enter 发送";
  box.setAttribute("aria-label", `给${titleOf(pane.chat)}的消息`);
  const send = button("发送", "send", () => submit(pane));
  send.disabled = true;
  const count = el("span", "count");
  const tools = el("div", "tools");
  if (kind === "group") {
    tools.append(button("@", "", () => mention(pane)));
  } else {
    for (const [label, what] of [["图片", "image"], ["语音", "voice"], ["位置", "location"]]) tools.append(button(label, "", () => attempt("/api/write", { person: me.id, chat: pane.chat, kind: what })));
  }
  tools.append(el("span", "grow"), count);
  const holder = el("div", "composer", tools, box, send);
  pane.holder = holder;
  box.addEventListener("input", () => {
    send.disabled = !box.value.trim();
    const bytes = new TextEncoder().encode(box.value).length;
    count.textContent = bytes > 200 ? `${bytes} 字节` : "";
    holder.querySelector(".menu")?.remove();
    if (kind === "group" && /(^|\s)@$/.test(box.value.slice(0, box.selectionStart))) mention(pane, true);
  });
  box.addEventListener("keydown", (event) => onKey(event, pane));
  return holder;
}

function onKey(event, pane) {
  // While a Chinese input method composes, Enter belongs to it.
  if (event.isComposing || event.keyCode === 229) return;
  const menu = pane.holder.querySelector(".menu");
  if (menu && event.key === "Enter") { event.preventDefault(); menu.querySelector(".chosen").click(); return; }
  if (menu && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    event.preventDefault();
    const all = [...menu.children];
    const at = all.findIndex((one) => one.classList.contains("chosen"));
    all[at].classList.remove("chosen");
    all[(at + (event.key === "ArrowDown" ? 1 : all.length - 1)) % all.length].classList.add("chosen");
    return;
  }
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); submit(pane); }
}

function mention(pane, typed = false) {
  pane.holder.querySelector(".menu")?.remove();
  const group = state.groups.find((found) => found.id === nameOf(pane.chat));
  const names = [group.bot, ...group.members.filter((id) => id !== me.id).map((id) => personById(id).name)];
  const menu = el("div", "menu", ...names.map((name) => button(name, "", () => {
    const at = pane.box.selectionStart;
    pane.box.value = `${pane.box.value.slice(0, at)}${typed ? "" : "@"}${name} ${pane.box.value.slice(at)}`;
    menu.remove();
    pane.box.dispatchEvent(new Event("input"));
    pane.box.focus();
  })));
  menu.firstChild.classList.add("chosen");
  pane.holder.append(menu);
  pane.box.focus();
}

async function submit(pane) {
  const text = pane.box.value;
  if (!text.trim()) return;
  pane.box.value = "";
  pane.box.dispatchEvent(new Event("input"));
  pane.log.scrollTop = pane.log.scrollHeight;
  const done = await attempt("/api/write", { person: me.id, chat: pane.chat, text: text.replace(/\s+$/, "") });
  if (!done && !pane.box.value) { pane.box.value = text; pane.box.dispatchEvent(new Event("input")); }
}

// --- what the platform did ---

const KINDS = {
  written: ["收到消息", ""], posted: ["推送", ""], acknowledged: ["应用已应答", "good"], failed: ["投递失败", "warn"], given_up: ["放弃投递", "bad"],
  replied: ["机器人已回复", "good"], shown: ["展示气泡", ""], finished: ["回复完成", "good"], suppressed: ["抑制重复", "good"], dropped: ["静默丢弃", "bad"],
  cut: ["静默截断", "warn"], ignored: ["忽略", "warn"], refused: ["拒绝", "bad"], expired: ["流式过期", "bad"], recalled: ["撤回", ""],
  connected: ["长连接订阅", "good"], disconnected: ["长连接断开", "warn"], fault: ["故障", "warn"],
};
const deliveries = new Map(); // msg_id → [label, class], for own bubbles

function concerns(entry, pane) {
  if (entry.chat && entry.chat !== pane.chat && !(entry.kind.endsWith("connected") && kindOf(pane.chat) !== "app")) return false;
  return !entry.person || entry.person === me.id || kindOf(pane.chat) === "group";
}

function drawEntry(entry) {
  const [label, look] = KINDS[entry.kind] || [entry.kind, ""];
  const fault = entry.kind === "fault" && state.faults.find((one) => one.name === entry.detail);
  const detail = [entry.code ? String(entry.code) : "", fault ? fault.title : entry.detail || ""].filter(Boolean).join(" ");
  return el("div", look, el("time", "", clock(entry.time, true)), el("b", "", label), el("span", "detail", detail));
}

function drawStrip(pane) {
  pane.strip.hidden = !stripOn;
  if (!stripOn) return;
  pane.strip.replaceChildren(...entries.filter((entry) => concerns(entry, pane)).slice(-100).map(drawEntry));
  pane.strip.scrollTop = pane.strip.scrollHeight;
}

function noted(entry) {
  if (!entry.msg_id) return;
  if (entry.kind === "given_up") deliveries.set(entry.msg_id, ["未送达应用，平台已放弃", "bad"]);
  else if (entry.kind === "failed") deliveries.set(entry.msg_id, ["投递失败，平台将重试", "warn"]);
  else if (entry.kind === "acknowledged") deliveries.delete(entry.msg_id);
  else if (entry.kind === "dropped") toast("一条消息超过接收频率，被平台静默丢弃");
  if (deliveries.size > ENTRIES) deliveries.delete(deliveries.keys().next().value);
}

function onEntry(entry) {
  entries.push(entry);
  if (entries.length > ENTRIES) entries.splice(0, ENTRIES / 4);
  noted(entry);
  if (!me) return;
  for (const pane of panes) {
    if (stripOn && concerns(entry, pane)) {
      pane.strip.append(drawEntry(entry));
      if (pane.strip.childElementCount > 100) pane.strip.firstChild.remove();
      pane.strip.scrollTop = pane.strip.scrollHeight;
    }
    const mine = [...(bubbles.get(key(pane.chat, me.id)) || new Map()).values()].find((bubble) => bubble.msg_id === entry.msg_id && bubble.speaker === me.id);
    if (mine && ["given_up", "failed", "acknowledged"].includes(entry.kind)) place(pane, mine);
  }
  if (entry.kind === "fault" || entry.kind.endsWith("connected")) refreshSoon();
}

async function loadEntries() {
  const found = await attempt("/api/journal");
  entries.length = 0;
  for (const entry of found || []) { entries.push(entry); noted(entry); }
  for (const pane of panes) { fill(pane); drawStrip(pane); }
}

// --- changes as they come ---

function onBubble(bubble) {
  const where = `${bubble.chat}|${bubble.person || ""}`;
  const found = bubbles.get(where) || new Map();
  const isNew = !found.has(bubble.number);
  found.set(bubble.number, bubble);
  if (found.size > BUBBLES) found.delete(found.keys().next().value);
  bubbles.set(where, found);
  if (!me) return;
  const readers = bubble.person ? [bubble.person] : (state.groups.find((group) => group.id === nameOf(bubble.chat)) || { members: [] }).members;
  for (const reader of readers) {
    const pane = reader === me.id && panes.find((one) => one.chat === bubble.chat);
    if (pane) pending.set(`${where}|${bubble.number}`, [pane, bubble]);
    else if (isNew && bubble.speaker !== reader) unread.set(`${bubble.chat}|${reader}`, (unread.get(`${bubble.chat}|${reader}`) || 0) + 1);
  }
  redrawSoon();
}

// Many streams can change in one frame; each bubble is drawn at most once in it.
const pending = new Map();
let redraw = 0;
function redrawSoon() {
  if (redraw) return;
  redraw = setTimeout(() => {
    redraw = 0;
    for (const [pane, bubble] of pending.values()) if (panes.includes(pane)) place(pane, bubble);
    pending.clear();
    drawRail();
    drawList();
  }, 30);
}

let refresh = 0;
function refreshSoon() {
  clearTimeout(refresh);
  refresh = setTimeout(async () => {
    const found = await attempt("/api/state");
    if (!found) return;
    Object.assign(state, found);
    me = personById(me.id) || state.people[0];
    for (const pane of panes) drawHead(pane);
    drawFaultCount();
    if (!$("panel").hidden && !$("panel").contains(document.activeElement)) drawPanel();
  }, 120);
}

function listen() {
  const feed = new EventSource("/api/feed");
  let lost = false;
  feed.addEventListener("bubble", (event) => onBubble(JSON.parse(event.data)));
  feed.addEventListener("entry", (event) => onEntry(JSON.parse(event.data)));
  feed.addEventListener("reload", () => { feed.close(); lost = true; setTimeout(listen, 300); });
  // Only once changes are heard is the state asked for, so that none falls in between.
  feed.addEventListener("hello", () => { lost = false; bubbles.clear(); start(); });
  feed.addEventListener("error", () => { if (!lost) toast("与模拟器的连接断开，正在重连"); lost = true; });
}

// --- faults, links, rules ---

const DOORS = { callback: "应用回调", rest: "消息接口", socket: "长连接" };
const ACTS = [["kick", "踢下线"], ["cut", "断开长连接"], ["lose_subscription", "丢失订阅"], ["silence", "静默 10 秒"], ["expire_tokens", "令牌全部失效"], ["expire_streams", "流式全部过期"], ["clear_faults", "关闭所有故障"]];

function drawFaultCount() {
  const count = Object.keys(state.switches).length;
  $("active-faults").textContent = `${count} 项开启`;
  $("active-faults").hidden = !count;
}

function drawPanel() {
  for (const one of document.querySelectorAll("[data-tab]")) one.setAttribute("aria-selected", String(one.dataset.tab === tab));
  ({ faults: drawFaults, links: drawLinks, rules: drawRules })[tab]();
}

function drawFaults() {
  const acts = el("div", "acts", ...ACTS.map(([name, label]) => button(label, "", async () => { if (await attempt("/api/act", { name })) { toast(`已执行：${label}`); refreshSoon(); } })));
  const parts = [el("h3", "", "立即发生"), acts];
  for (const [door, title] of Object.entries(DOORS)) {
    parts.push(el("h3", "", title), ...state.faults.filter((fault) => fault.door === door).map(drawFault));
  }
  $("panel-body").replaceChildren(...parts);
}

function drawFault(fault) {
  const now = state.switches[fault.name];
  const box = el("input", "switch");
  box.type = "checkbox";
  box.checked = Boolean(now);
  box.setAttribute("aria-label", fault.title);
  const struck = state.struck[fault.name] || 0;
  const more = el("div", "more");
  const field = (label, value, step) => {
    const input = el("input");
    Object.assign(input, { type: "number", min: 0, step, value });
    more.append(el("label", "", label, input));
    return input;
  };
  const values = { probability: field("概率", now?.probability ?? 1, 0.05), count: field("次数", now?.count ?? "", 1) };
  values.count.placeholder = "不限";
  if (fault.seconds !== null && fault.seconds !== undefined) values.seconds = field("秒", now?.seconds ?? fault.seconds, 0.5);
  more.hidden = !now;
  const save = async () => {
    const number = (input) => (input && input.value !== "" ? Number(input.value) : null);
    const switches = await attempt("/api/faults", { name: fault.name, on: box.checked, probability: number(values.probability) ?? 1, count: number(values.count), seconds: number(values.seconds) });
    if (switches) state.switches = switches;
    more.hidden = !state.switches[fault.name];
    box.checked = Boolean(state.switches[fault.name]);
    drawFaultCount();
  };
  box.addEventListener("change", save);
  for (const input of Object.values(values)) input.addEventListener("change", save);
  return el("div", "fault", el("div", "head", el("span", "", fault.title), el("em", "", struck ? `已发生 ${struck} 次` : ""), box), el("p", "", fault.effect), more);
}

function drawLinks() {
  const parts = [];
  for (const app of state.apps) {
    const input = el("input");
    Object.assign(input, { value: app.url, placeholder: "http://127.0.0.1:8080/wecom/app/…" });
    input.setAttribute("aria-label", `${app.name}的接收地址`);
    const outcome = el("p", "outcome");
    const save = button("保存", "plainbtn", async () => {
      outcome.textContent = "正在校验…";
      outcome.className = "outcome";
      const found = await attempt("/api/callback", { app: app.id, url: input.value.trim() });
      if (!found) { outcome.textContent = ""; return; }
      outcome.className = `outcome ${found.passed ? "ok" : "no"}`;
      outcome.textContent = found.passed ? "已保存，地址校验通过" : `openapi回调地址请求不通过(-30065):${found.reason}`;
      refreshSoon();
    });
    parts.push(el("h3", "", `应用 ${app.name} · AgentId ${app.id}`), el("div", "", "接收消息服务器 URL"), el("div", "address", input, save), outcome);
  }
  const pairs = [["接口地址（代替 qyapi.weixin.qq.com）", state.rest_base], ["长连接地址（代替 openws.work.weixin.qq.com）", state.socket_base]];
  for (const bot of state.bots) pairs.push([`机器人 ${bot.name} · ${bot.id}`, bot.connected ? "长连接在线" : "长连接离线"]);
  parts.push(el("h3", "", "地址与机器人"), el("dl", "kv", ...pairs.flatMap(([name, value]) => [el("dt", "", name), el("dd", "", el("code", "", value))])));
  const counts = Object.entries(state.counters).filter(([name]) => KINDS[name]);
  parts.push(el("h3", "", "计数"), el("dl", "kv pairs", ...counts.flatMap(([name, value]) => [el("dt", "", KINDS[name][0]), el("dd", "", String(value))])));
  $("panel-body").replaceChildren(...parts);
}

async function drawRules() {
  const rules = await attempt("/api/rules");
  if (!rules || tab !== "rules") return;
  $("panel-body").replaceChildren(...rules.map((rule) => el("div", "rule", el("div", "top", el("code", "", rule.name), el("span", "value", String(rule.value))), el("p", "", `${rule.description} — ${rule.source}`))));
}

function openPanel(name = tab) {
  tab = ["faults", "links", "rules"].includes(name) ? name : "faults";
  $("panel").hidden = false;
  drawPanel();
}

// --- the frame ---

function drawPanes() {
  $("panes").replaceChildren(...panes.map((pane) => pane.node));
  panes.forEach((pane, index) => {
    pane.node.classList.toggle("front", index === front);
    drawStrip(pane);
    pane.log.scrollTop = pane.log.scrollHeight;
  });
  drawRail();
  drawList();
}

function setStrip(on) {
  stripOn = on;
  localStorage.setItem("strip", on ? "1" : "0");
  $("toggle-strip").setAttribute("aria-pressed", String(on));
  for (const pane of panes) { fill(pane); drawStrip(pane); }
}

$("open-panel").addEventListener("click", () => { if ($("panel").hidden) openPanel(); else $("panel").hidden = true; });
$("close-panel").addEventListener("click", () => { $("panel").hidden = true; });
$("toggle-strip").addEventListener("click", () => setStrip(!stripOn));
for (const one of document.querySelectorAll("[data-tab]")) one.addEventListener("click", () => openPanel(one.dataset.tab));
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName);
  if (event.altKey && /^[1-9]$/.test(event.key) && state.people[event.key - 1]) { event.preventDefault(); become(state.people[event.key - 1].id); }
  else if (event.key === "Escape") { $("panel").hidden = true; document.querySelector(".menu")?.remove(); }
  else if (event.key === "?" && !typing) $("help").showModal();
});

async function start() {
  const found = await attempt("/api/state");
  if (!found) { setTimeout(start, 1000); return; }
  Object.assign(state, found);
  $("toggle-strip").setAttribute("aria-pressed", String(stripOn));
  drawFaultCount();
  await become(me ? me.id : wish.get("person") || localStorage.getItem("person") || state.people[0].id);
  if (wish.get("chat")) { const chat = me.chats.find(([one]) => one.startsWith(wish.get("chat"))); wish.delete("chat"); if (chat) show(chat[0]); }
  if (wish.has("panel")) { openPanel(wish.get("panel")); wish.delete("panel"); }
}

// A picture of the page has to end: `?still` leaves the stream of changes out.
if (wish.has("still")) start();
else listen();
