// One bubble: who, what, and what the platform did with it.

import { attempt } from "./net.js";
import { button, el, icon } from "./dom.js";
import { avatar } from "./avatar.js";
import { drawContent, isBare } from "./contents.js";
import { drawFeedback } from "./feedback.js";
import { deliveries } from "./journal.js";
import { render } from "./markdown.js";
import { isCustomer, kindOf, speakerName, view } from "./state.js";

const TAGS = { app: "应用", bot: "机器人", robot: "群机器人", kf: "智能助手" };
const REPLY = "M9 6V3L2 9.500 9 16v-3.500c5 0 8.500 1.500 11 5.500-1-6-4.500-11-11-12z";
const BACK = "M12 5a7 7 0 1 1-6.700 9h2.100A5 5 0 1 0 12 7H8.500l2 2L9 10.500 4.500 6 9 1.500 10.500 3l-2 2z";

// On whose side a bubble stands: what the person reads it for, or the company's against a customer's.
const isMine = (pane, bubble) => (pane.kind === "serve" ? !isCustomer(bubble.speaker) : bubble.speaker === view.me.id);

export function drawBubble(pane, bubble, old, handlers) {
  const mine = isMine(pane, bubble);
  if (bubble.recalled) return el("div", "system", `${bubble.speaker === view.me.id ? "你" : speakerName(bubble.speaker)}撤回了一条消息`);
  const box = el("div", "bubble");
  if (bubble.thoughts) box.append(thoughts(bubble, old));
  fill(box, bubble, pane);
  if (bubble.lost_bytes) box.append(el("span", "cutmark", `✂ 超出上限，末尾 ${bubble.lost_bytes} 字节被平台截断`));
  if (bubble.expired) box.append(el("div", "expired", "回复超时，内容未能完整显示"));
  else if (bubble.finished === false) box.append(el("span", "typing", el("i"), el("i"), el("i")));
  const col = el("div", "col");
  // The personal WeChat shows one partner: the account, whoever speaks for it.
  const named = pane.kind === "serve" ? bubble.speaker !== view.me.id : !mine && pane.kind !== "kf";
  if (named) col.append(who(bubble));
  col.append(el("div", "line", box, tools(pane, bubble, handlers)));
  if (bubble.feedback_id && bubble.finished !== false && kindOf(bubble.speaker) === "bot") col.append(drawFeedback(bubble, () => handlers.redraw(bubble)));
  const notes = drawNotes(bubble, bubble.speaker === view.me.id);
  if (pane.kind === "kf" && !mine && !bubble.speaker.includes(":")) notes.push(el("span", "", `接待人员 ${speakerName(bubble.speaker)}`));
  if (notes.length) col.append(el("div", "notes", ...notes));
  return el("div", mine ? "row mine" : "row", avatar(pane.kind === "kf" && !mine ? bubble.chat : bubble.speaker), col);
}

function fill(box, bubble, pane) {
  const isMarkdown = bubble.look === "markdown" || bubble.look === "stream";
  if (bubble.content) {
    box.classList.add(`k-${bubble.content.kind}`);
    if (isBare(bubble.content)) box.classList.add("bare");
    box.append(drawContent(bubble, pane));
  } else if (isMarkdown) {
    const words = el("div", "md");
    words.append(render(bubble.text));
    box.append(words);
  } else {
    box.classList.add("plain");
    box.append(bubble.text);
  }
}

function who(bubble) {
  const node = el("div", "who", speakerName(bubble.speaker));
  const tag = bubble.speaker.includes(":") ? TAGS[kindOf(bubble.speaker)] : isCustomer(bubble.speaker) ? "@微信" : "";
  if (tag) node.append(el("span", isCustomer(bubble.speaker) ? "tag wechat" : "tag", tag));
  return node;
}

// What can be done with a message: it appears beside it, for the mouse and for the keyboard.
function tools(pane, bubble, handlers) {
  const node = el("div", "beside-tools");
  if (["app", "bot", "group"].includes(pane.kind) && bubble.finished !== false && pane.canQuote) {
    const quote = button("", "", () => handlers.quote(bubble), "引用");
    quote.append(icon(REPLY));
    node.append(quote);
  }
  if (kindOf(bubble.chat) === "kf" && bubble.speaker === view.me.id) {
    const customer = pane.kind === "serve" ? bubble.person : "";
    const back = button("", "", () => attempt("/api/recall", { person: view.me.id, chat: bubble.chat, number: bubble.number, customer }), "撤回");
    back.append(icon(BACK));
    node.append(back);
  }
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
  if (view.strip && bubble.look === "stream" && bubble.sent > 1) notes.push(el("span", "", `流式刷新 ${bubble.sent} 次`));
  return notes;
}
