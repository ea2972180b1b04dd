// The side of the persons who serve customers: who waits, taking over, ending, and one's own state.

import { attempt } from "./net.js";
import { button, el } from "./dom.js";
import { chatOf, customerOf, personById, sessionOf, state, view } from "./state.js";

export const SESSION = ["新接入", "智能助手接待", "等待人工", "人工接待", "已结束"];

// A short word for the list, and how loud it is.
export function sessionChip(place, customer) {
  const session = sessionOf(place, customer);
  const mine = session.state === 3 && session.servicer === view.me.id;
  const name = session.state === 3 ? (mine ? "我在接待" : `${personById(session.servicer)?.name || session.servicer}接待`) : SESSION[session.state];
  return el("span", `chipstate s${session.state}${mine ? " mine" : ""}`, name);
}

export const isServing = (place) => {
  const session = sessionOf(place);
  return session.state === 3 && session.servicer === view.me.id;
};

const serve = (place, act) => attempt("/api/serve", { servicer: view.me.id, act, customer: customerOf(place), chat: chatOf(place) });

export function deskActions(place) {
  const session = sessionOf(place);
  if (isServing(place)) return [button("结束会话", "deskact", () => serve(place, "end"))];
  const label = { 2: "接入", 3: "转给我", 4: "重新接入" }[session.state] || "从助手接入";
  return [button(label, "deskact primary", () => serve(place, "take"))];
}

export function receivingSwitch() {
  const on = state.kf.receiving[view.me.id];
  if (on === undefined) return null;
  const node = button(on ? "接待中" : "已暂停接待", `receiving${on ? " on" : ""}`, async () => {
    if (!(await attempt("/api/serve", { servicer: view.me.id, act: on ? "pause" : "receive" }))) return;
    state.kf.receiving[view.me.id] = !on;
    node.replaceWith(receivingSwitch());
  }, "微信客服接待状态，点击切换");
  return node;
}

export const waitingCount = () => state.sessions.filter((found) => found.state === 2).length;
