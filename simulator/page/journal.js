// What the platform did: entries, the strip below a chat, and the state of one's own messages.

import { clock, el, toast } from "./dom.js";
import { ENTRIES, chatOf, customerOf, entries, kindOf, state, view } from "./state.js";

export const KINDS = {
  written: ["收到消息", ""], posted: ["推送", ""], acknowledged: ["应用已应答", "good"], failed: ["投递失败", "warn"], given_up: ["放弃投递", "bad"],
  replied: ["机器人已回复", "good"], shown: ["展示气泡", ""], finished: ["回复完成", "good"], suppressed: ["抑制重复", "good"], dropped: ["静默丢弃", "bad"],
  cut: ["静默截断", "warn"], ignored: ["忽略", "warn"], refused: ["拒绝", "bad"], expired: ["流式过期", "bad"], recalled: ["撤回", ""], session: ["会话状态", "good"],
  connected: ["长连接订阅", "good"], disconnected: ["长连接断开", "warn"], fault: ["故障", "warn"],
};

export const deliveries = new Map(); // msg_id → [label, class], for own bubbles

export function isOf(entry, pane) {
  const chat = chatOf(pane.place);
  if (entry.chat && entry.chat !== chat && !(entry.kind.endsWith("connected") && ["bot", "group"].includes(pane.kind))) return false;
  const reader = pane.kind === "serve" ? customerOf(pane.place) : view.me.id;
  return !entry.person || entry.person === reader || pane.kind === "group";
}

export function drawEntry(entry) {
  const [label, look] = KINDS[entry.kind] || [entry.kind, ""];
  const fault = entry.kind === "fault" && state.faults.find((one) => one.name === entry.detail);
  const detail = [entry.code ? String(entry.code) : "", fault ? fault.title : entry.detail || ""].filter(Boolean).join(" ");
  return el("div", look, el("time", "", clock(entry.time, true)), el("b", "", label), el("span", "detail", detail));
}

export function remember(entry) {
  entries.push(entry);
  if (entries.length > ENTRIES) entries.splice(0, ENTRIES / 4);
  noted(entry);
}

export function noted(entry) {
  if (!entry.msg_id) return;
  if (entry.kind === "given_up") deliveries.set(entry.msg_id, ["未送达应用，平台已放弃", "bad"]);
  else if (entry.kind === "failed") deliveries.set(entry.msg_id, ["投递失败，平台将重试", "warn"]);
  else if (entry.kind === "acknowledged") deliveries.delete(entry.msg_id);
  else if (entry.kind === "dropped") toast("一条消息超过接收频率，被平台静默丢弃");
  if (deliveries.size > ENTRIES) deliveries.delete(deliveries.keys().next().value);
}

// Whether the page's picture of who is there has to be asked for anew.
export const changesState = (entry) => entry.kind === "fault" || entry.kind === "session" || entry.kind.endsWith("connected") || kindOf(entry.chat || "") === "kf";
