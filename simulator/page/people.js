// Who is looked through, and the chats they have.

import { $, button, clock, el } from "./dom.js";
import { avatar } from "./avatar.js";
import { receivingSwitch, sessionChip, waitingCount } from "./desk.js";
import { brief, customerOf, isCustomer, kindOf, placesOf, state, store, unread, view } from "./state.js";

export function drawRail(become) {
  const counts = new Map();
  for (const [where, count] of unread) {
    const reader = where.split("\n")[1];
    counts.set(reader, (counts.get(reader) || 0) + count);
  }
  const draw = (person, index) => {
    const node = button("", "person", () => become(person.id));
    node.append(avatar(person.id), el("span", "", person.name));
    node.title = `${person.name}（${person.id}）${index < 9 ? `· Alt+${index + 1}` : ""}`;
    node.setAttribute("aria-current", String(person.id === view.me.id));
    const count = counts.get(person.id) || 0;
    if (count && person.id !== view.me.id) node.append(el("span", "badge", count > 99 ? "99+" : String(count)));
    return node;
  };
  const members = state.people.map(draw);
  const customers = state.customers.map((customer, index) => draw(customer, state.people.length + index));
  $("rail").replaceChildren(el("small", "railname", "企业微信"), ...members, ...(customers.length ? [el("small", "railname wechat", "微信顾客"), ...customers] : []));
}

export function drawList(panes, front, show) {
  const { me } = view;
  $("me").textContent = me.name;
  $("me-title").textContent = me.title || (isCustomer(me.id) ? "个人微信" : "");
  const draw = ([place, name]) => {
    const last = [...store(place).values()].at(-1);
    const node = button("", "chat", () => show(place));
    const said = last ? (last.recalled ? "[撤回了一条消息]" : brief(last)) : "";
    const lower = el("div", "last", said);
    if (kindOf(place) === "serve") lower.prepend(sessionChip(place, customerOf(place)));
    node.append(avatar(place), el("div", "about", el("div", "top", el("span", "name", name), el("time", "", last ? clock(last.created_at) : "")), lower));
    const at = panes.findIndex((pane) => pane.place === place);
    node.setAttribute("aria-current", at === front ? "page" : String(at >= 0));
    const count = unread.get(`${place}\n${me.id}`) || 0;
    if (count) node.append(el("span", "badge", count > 99 ? "99+" : String(count)));
    return node;
  };
  const places = placesOf(me);
  const own = places.filter(([place]) => kindOf(place) !== "serve");
  const served = places.filter(([place]) => kindOf(place) === "serve");
  const waits = waitingCount();
  const desk = me.serves ? [el("div", "section", el("span", "", waits ? `微信客服 · ${waits} 位等待` : "微信客服"), receivingSwitch() || "")] : [];
  const none = me.serves && !served.length ? [el("p", "none", "还没有顾客来访。切换到左侧的微信顾客，给客服发一条消息。")] : [];
  $("chats").replaceChildren(...own.map(draw), ...desk, ...served.map(draw), ...none);
}
