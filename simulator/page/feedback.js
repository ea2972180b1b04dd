// Rating a bot's reply: helpful, or not and why; the same touch again withdraws it (DOC 101031).

import { attempt } from "./net.js";
import { button, closePopover, el, icon, popover, toast } from "./dom.js";
import { view } from "./state.js";

const UP = "M2 10h4v11H2zm20 1a2 2 0 0 0-2-2h-6l1-4.500a1.500 1.500 0 0 0-2.600-1.300L7.600 8.600a2 2 0 0 0-.6 1.400V19a2 2 0 0 0 2 2h8.500a2 2 0 0 0 1.900-1.300l2.500-7.200z";
const DOWN = "M22 14h-4V3h4zM2 13a2 2 0 0 0 2 2h6l-1 4.500a1.500 1.500 0 0 0 2.600 1.300l4.800-5.400a2 2 0 0 0 .6-1.400V5a2 2 0 0 0-2-2H6.500a2 2 0 0 0-1.900 1.300L2.100 11.500z";
const REASONS = [[1, "与问题无关"], [2, "内容不完整"], [3, "内容有错误"], [4, "数据分析有误"]];

const given = new Map(); // "number|person" → 1 accurate, 2 inaccurate
const LIMIT = 1000;

export function drawFeedback(bubble, redraw) {
  const mark = `${bubble.number}|${view.me.id}`;
  const rate = async (kind, more = {}) => {
    const done = await attempt("/api/rate", { person: view.me.id, chat: bubble.chat, number: bubble.number, kind, ...more });
    if (!done) return;
    if (kind === 3) given.delete(mark);
    else given.set(mark, kind);
    if (given.size > LIMIT) given.delete(given.keys().next().value);
    toast(kind === 3 ? "已撤销评价" : "感谢反馈");
    redraw();
  };
  const thumb = (kind, shape, title, act) => {
    const node = button("", "thumb", () => (given.get(mark) === kind ? rate(3) : act(node)), given.get(mark) === kind ? `${title}，再点撤销` : title);
    node.setAttribute("aria-pressed", String(given.get(mark) === kind));
    node.append(icon(shape));
    return node;
  };
  return el("div", "feedback", thumb(1, UP, "准确", () => rate(1)), thumb(2, DOWN, "不准确", (node) => askWhy(node, rate)));
}

function askWhy(node, rate) {
  const boxes = REASONS.map(([number, label]) => {
    const box = el("input");
    box.type = "checkbox";
    box.value = number;
    return [box, el("label", "option", box, el("span", "", label))];
  });
  const words = el("textarea");
  words.placeholder = "补充说明（可不填）";
  words.maxLength = 200;
  const send = button("提交", "primary", () => {
    closePopover();
    rate(2, { reasons: boxes.filter(([box]) => box.checked).map(([box]) => Number(box.value)), content: words.value.trim() });
  });
  popover(node, el("b", "", "哪里不准确？"), ...boxes.map(([, label]) => label), words, el("div", "ends", send));
}
