// A conversation: its head, its bubbles, what the platform did, and where one writes.

import { button, clock, el } from "./dom.js";
import { avatar } from "./avatar.js";
import { drawBubble } from "./bubbles.js";
import { Composer } from "./compose.js";
import { deskActions, isServing, sessionChip } from "./desk.js";
import { drawEntry, isOf } from "./journal.js";
import { BUBBLES, appOf, botOf, customerOf, entries, groupOf, kindOf, nameOf, personById, state, store, titleOf, view } from "./state.js";

const STRIP = 100;
const HINTS = {
  app: ["自建应用会话。消息以加密回调送达应用，应用通过消息接口回复，长文本按 2048 字节截断。", ["你好，请介绍一下你自己", "年假怎么申请？", "/new"]],
  bot: ["智能机器人会话。回复以流式气泡逐步展开，支持 Markdown，可以评价。", ["你好，请介绍一下你自己", "用表格比较两种报销方式", "写一段 Python 示例代码"]],
  group: ["群聊。机器人只看得到提及它的消息，输入 @ 选择。", []],
  kf: ["这是顾客在个人微信里看到的客服会话。回复是纯文本，说“转人工”会交给企业的接待人员。", ["发货了吗？", "怎么开发票？", "转人工"]],
  serve: ["还没有消息。", []],
};

export class Pane {
  constructor(place) {
    this.place = place;
    this.kind = kindOf(place);
    this.rows = new Map();
    this.lastTime = 0;
    this.stuck = true;
    this.node = el("section", `pane ${this.kind}`);
    this.link = el("span", "link");
    this.sub = el("p");
    this.actions = el("span", "actions");
    this.header = el("header", "", avatar(place), el("div", "title", el("h2", "", titleOf(place)), this.sub), this.actions, this.link);
    this.log = el("div", "log");
    this.log.setAttribute("aria-live", "polite");
    this.strip = el("div", "strip");
    this.composer = new Composer(this);
    this.node.append(this.header, this.log, this.strip, this.composer.node);
    // Whoever reads the end keeps reading the end when the pane changes its size, and when a picture arrives:
    // only scrolling up leaves it.
    let top = 0;
    this.log.addEventListener("scroll", () => {
      if (this.isNearEnd()) this.stuck = true;
      else if (this.log.scrollTop < top) this.stuck = false;
      top = this.log.scrollTop;
    });
    this.log.addEventListener("load", () => { if (this.stuck) this.toEnd(); }, true);
    new ResizeObserver(() => {
      if (this.stuck) this.toEnd();
      this.strip.scrollTop = this.strip.scrollHeight;
    }).observe(this.log);
    this.fill();
  }

  get box() { return this.composer.box; }

  get canQuote() { return this.kind !== "group" || Boolean(groupOf(this.place)?.bot); }

  isNearEnd() { return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 80; }

  toEnd() { this.log.scrollTop = this.log.scrollHeight; }

  fill() {
    this.log.replaceChildren();
    this.rows.clear();
    this.lastTime = 0;
    const found = [...store(this.place).values()];
    if (!found.length) this.log.append(this.hint());
    const all = document.createDocumentFragment();
    for (const bubble of found) this.append(all, bubble);
    this.log.append(all);
    this.toEnd();
    this.drawHead();
  }

  hint() {
    const [text, tries] = HINTS[this.kind];
    const row = el("div", "tries", ...tries.map((one) => button(one, "", () => this.composer.fill(one))));
    return el("div", "empty", el("b", "", "?"), el("p", "", text), row, el("p", "", "按 ? 查看快捷键"));
  }

  draw(bubble, old) {
    return drawBubble(this, bubble, old, { quote: (one) => this.composer.quote(one), redraw: (one) => this.put(one) });
  }

  append(parent, bubble) {
    if (bubble.created_at - this.lastTime > 300) parent.append(el("div", "day", clock(bubble.created_at)));
    this.lastTime = bubble.created_at;
    const node = this.draw(bubble);
    parent.append(node);
    this.rows.set(bubble.number, node);
  }

  put(bubble) {
    const old = this.rows.get(bubble.number);
    if (old) {
      const node = this.draw(bubble, old);
      old.replaceWith(node);
      this.rows.set(bubble.number, node);
    } else {
      this.log.querySelector(".empty")?.remove();
      this.append(this.log, bubble);
    }
    if (this.rows.size > BUBBLES) {
      const [number, first] = this.rows.entries().next().value;
      first.remove();
      this.rows.delete(number);
    }
    if (this.stuck) this.toEnd();
  }

  // --- the head ---

  drawHead() {
    this.actions.replaceChildren();
    this.link.hidden = false;
    ({ app: () => this.headOfApp(), kf: () => this.headOfDesk(), serve: () => this.headOfCustomer() }[this.kind] || (() => this.headOfBot()))();
  }

  says(text, on, yes, no) {
    this.sub.textContent = text;
    this.link.classList.toggle("on", on);
    this.link.textContent = on ? yes : no;
  }

  headOfApp() {
    this.says("自建应用 · 回调与消息接口", Boolean(appOf(this.place)?.url), "已配置回调", "未配置回调");
  }

  headOfBot() {
    const group = this.kind === "group" ? groupOf(this.place) : null;
    const bot = botOf(this.place);
    const called = bot?.mode === "callback";
    const text = group ? this.ofGroup(group) : `智能机器人 · ${called ? "回调模式" : "长连接"}`;
    this.says(text, Boolean(called ? bot.url : bot?.connected), called ? "已配置回调" : "长连接在线", called ? "未配置回调" : "长连接离线");
    this.link.hidden = !bot;
  }

  ofGroup(group) {
    const robots = state.robots.filter((one) => one.group === group.id).map((one) => one.name);
    const others = [group.bot, ...robots, group.app && `由「${group.app}」创建`].filter(Boolean);
    return `群聊 · ${[`${group.members.length} 人`, ...others].join(" · ")}`;
  }

  headOfDesk() {
    this.sub.textContent = "微信客服";
    const chip = sessionChip(this.place, view.me.id);
    this.actions.append(chip);
    this.says("微信客服 · 顾客视角", Boolean(state.kf.url), "已配置回调", "未配置回调");
  }

  headOfCustomer() {
    const desk = state.desks.find((found) => found.id === nameOf(this.place).split("|")[0]);
    this.sub.textContent = `微信顾客 · 来自「${desk?.name || ""}」`;
    this.link.hidden = true;
    this.actions.append(sessionChip(this.place, customerOf(this.place)), ...deskActions(this.place));
    this.box.disabled = !isServing(this.place);
    this.box.placeholder = this.box.disabled ? "接入后可以回复顾客" : `回复${personById(customerOf(this.place))?.name || "顾客"}，Enter 发送`;
    this.composer.changed();
  }

  // --- what the platform did ---

  drawStrip() {
    this.strip.hidden = !view.strip;
    if (!view.strip) return;
    this.strip.replaceChildren(...entries.filter((entry) => isOf(entry, this)).slice(-STRIP).map(drawEntry));
    this.strip.scrollTop = this.strip.scrollHeight;
  }

  addEntry(entry) {
    if (!view.strip || !isOf(entry, this)) return;
    this.strip.append(drawEntry(entry));
    if (this.strip.childElementCount > STRIP) this.strip.firstChild.remove();
    this.strip.scrollTop = this.strip.scrollHeight;
  }
}
