// Faults, connections and rules.

import { attempt } from "./net.js";
import { $, button, el, toast } from "./dom.js";
import { KINDS } from "./journal.js";
import { personById, state } from "./state.js";

const DOORS = { callback: "回调", rest: "接口与文件", socket: "长连接" };
const ACTS = [["kick", "踢下线"], ["cut", "断开长连接"], ["lose_subscription", "丢失订阅"], ["silence", "静默 10 秒"], ["expire_tokens", "令牌全部失效"], ["expire_streams", "流式全部过期"], ["clear_faults", "关闭所有故障"]];

let tab = "faults";
let refreshSoon = () => {};
export const onRefresh = (refresh) => { refreshSoon = refresh; };

export function drawFaultCount() {
  const count = Object.keys(state.switches).length;
  $("active-faults").textContent = `${count} 项开启`;
  $("active-faults").hidden = !count;
}

export function openPanel(name = tab) {
  tab = ["faults", "links", "rules"].includes(name) ? name : "faults";
  $("panel").hidden = false;
  drawPanel();
}

export function refreshPanel() {
  if (!$("panel").hidden && !$("panel").contains(document.activeElement)) drawPanel();
}

function drawPanel() {
  for (const one of document.querySelectorAll("[data-tab]")) one.setAttribute("aria-selected", String(one.dataset.tab === tab));
  ({ faults: drawFaults, links: drawLinks, rules: drawRules })[tab]();
}

// --- faults ---

function drawFaults() {
  const acts = el("div", "acts", ...ACTS.map(([name, label]) => button(label, "", async () => {
    if (!(await attempt("/api/act", { name }))) return;
    toast(`已执行：${label}`);
    refreshSoon();
  })));
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

// --- connections ---

function address(title, where, url, example) {
  const input = el("input");
  Object.assign(input, { value: url, placeholder: example });
  input.setAttribute("aria-label", `${title}的接收地址`);
  const outcome = el("p", "outcome");
  const save = button("保存", "plainbtn", async () => {
    outcome.textContent = "正在校验…";
    outcome.className = "outcome";
    const found = await attempt("/api/callback", { ...where, url: input.value.trim() });
    if (!found) { outcome.textContent = ""; return; }
    outcome.className = `outcome ${found.passed ? "ok" : "no"}`;
    outcome.textContent = found.passed ? "已保存，地址校验通过" : `openapi回调地址请求不通过(-30065):${found.reason}`;
    refreshSoon();
  });
  return [el("h3", "", title), el("div", "address", input, save), outcome];
}

const pairs = (list) => el("dl", "kv", ...list.flatMap(([name, value]) => [el("dt", "", name), el("dd", "", el("code", "", value))]));

function drawLinks() {
  const parts = [el("h3", "", "地址"), pairs([["接口（代替 qyapi.weixin.qq.com）", state.rest_base], ["长连接（代替 openws.work.weixin.qq.com）", state.socket_base]])];
  for (const app of state.apps) parts.push(...address(`应用 ${app.name} · AgentId ${app.id}`, { app: app.id }, app.url, "…:8080/wecom/app/NAME"));
  for (const bot of state.bots) {
    if (bot.mode === "callback") parts.push(...address(`机器人 ${bot.name} · 回调模式`, { bot: bot.id }, bot.url, "…:8080/wecom/bot/NAME"));
    else parts.push(el("h3", "", `机器人 ${bot.name} · 长连接`), el("p", `outcome ${bot.connected ? "ok" : "no"}`, bot.connected ? "长连接在线" : "长连接离线"));
  }
  if (state.desks.length) {
    parts.push(...address(`微信客服 · ${state.desks.map((desk) => desk.name).join("、")}`, { kf: true }, state.kf.url, "…:8080/wecom/kf/NAME"));
    parts.push(pairs(Object.entries(state.kf.receiving).map(([id, on]) => [`接待人员 ${personById(id)?.name || id}`, on ? "接待中" : "已暂停"])));
  }
  for (const robot of state.robots) parts.push(...drawRobot(robot));
  const counts = Object.entries(state.counters).filter(([name]) => KINDS[name]);
  parts.push(el("h3", "", "计数"), el("dl", "kv pairs", ...counts.flatMap(([name, value]) => [el("dt", "", KINDS[name][0]), el("dd", "", String(value))])));
  $("panel-body").replaceChildren(...parts);
}

function drawRobot(robot) {
  const box = el("input", "switch good");
  box.type = "checkbox";
  box.checked = !robot.disabled;
  box.setAttribute("aria-label", `启用 ${robot.name}`);
  box.addEventListener("change", async () => { if (await attempt("/api/robot", { robot: robot.name, disabled: !box.checked })) refreshSoon(); });
  const group = state.groups.find((found) => found.id === robot.group);
  return [el("h3", "", `群机器人 ${robot.name}`), el("div", "fault", el("div", "head", el("span", "", `在「${group?.name || robot.group}」中${robot.disabled ? "已停用" : "可用"}`), box))];
}

// --- rules ---

async function drawRules() {
  const rules = await attempt("/api/rules");
  if (!rules || tab !== "rules") return;
  $("panel-body").replaceChildren(...rules.map((rule) => el("div", "rule", el("div", "top", el("code", "", rule.name), el("span", "value", String(rule.value))), el("p", "", `${rule.description} — ${rule.source}`))));
}
