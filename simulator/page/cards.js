// Template cards: all five kinds, with what a person can touch (DOC 90236, 101032, 91770).

import { attempt } from "./net.js";
import { anchor, button, closePopover, el, isWeb, popover, toast } from "./dom.js";
import { view } from "./state.js";

const INTERACTIVE = ["button_interaction", "vote_interaction", "multiple_interaction"];
const COLORS = ["grey", "black", "red", "green"];

export function drawCard(content, bubble, pane, picture) {
  const card = content.card || {};
  // A robot's card, and the same card in a group of an application, tells nobody of a touch.
  const hears = /^(app|bot):/.test(bubble.speaker);
  const context = { card, bubble, pane, hears, words: content.replaced || "", done: Boolean(content.replaced) || !hears };
  const node = el("div", `tcard ${card.card_type || ""}`);
  node.append(...[head(context, node), image(card, picture), titles(card), beside(card, picture), emphasis(card), quoted(card), subtitle(card), rows(card), ...asking(context, node), ...jumps(context, node), action(card)].filter(Boolean));
  return node;
}

async function touch(context, node, key, selected = {}) {
  const { bubble } = context;
  node.classList.add("busy");
  const controls = [...node.querySelectorAll("button, input, select")].filter((one) => !one.disabled);
  for (const one of controls) one.disabled = true;
  const done = await attempt("/api/touch", { person: view.me.id, chat: bubble.chat, number: bubble.number, key, selected });
  // Whether the card changes is up to the application; a platform lets go after five seconds.
  const letGo = () => { node.classList.remove("busy"); for (const one of controls) one.disabled = false; };
  if (done) setTimeout(letGo, 5000);
  else letGo();
}

// --- what is read ---

function head(context, node) {
  const { source, action_menu: menu } = context.card;
  if (!source && !menu) return null;
  const row = el("div", "source", el("span", `from ${COLORS[source?.desc_color || 0]}`, source?.desc || ""));
  if (menu) {
    const more = button("⋯", "dots", () => popover(more, el("div", "choices", el("small", "", menu.desc || "操作"), ...(menu.action_list || []).map((one) => button(one.text, "", () => {
      closePopover();
      if (context.hears) touch(context, node, one.key);
    })))), menu.desc || "卡片菜单");
    row.append(more);
  }
  return row;
}

const image = (card, picture) => (card.card_image ? picture(card.card_image.url, "", "cover") : null);

function titles(card) {
  const { title = "", desc = "" } = card.main_title || {};
  return title || desc ? el("div", "titles", title ? el("b", "", title) : "", desc ? el("p", "", desc) : "") : null;
}

function beside(card, picture) {
  const area = card.image_text_area;
  if (!area) return null;
  const words = el("div", "about", el("b", "", area.title || ""), el("p", "", area.desc || ""));
  return anchor(area.type === 1 ? area.url : "", "beside", picture(area.image_url, "", "square"), words);
}

function emphasis(card) {
  const { title = "", desc = "" } = card.emphasis_content || {};
  return title || desc ? el("div", "emphasis", el("strong", "", title), el("small", "", desc)) : null;
}

function quoted(card) {
  const area = card.quote_area;
  return area ? anchor(area.type === 1 ? area.url : "", "quotearea", area.title ? el("b", "", area.title) : "", el("span", "", area.quote_text || "")) : null;
}

const subtitle = (card) => (card.sub_title_text ? el("p", "subtitle", card.sub_title_text) : null);

function rows(card) {
  const across = (card.horizontal_content_list || []).map((row) => el("div", "pair", el("span", "", row.keyname || ""), row.type === 1 ? anchor(row.url, "value", row.value || row.url) : el("span", `value${row.type === 3 ? " member" : ""}`, row.value || row.userid || "")));
  const down = (card.vertical_content_list || []).map((row) => el("div", "down", el("b", "", row.title || ""), el("p", "", row.desc || "")));
  return across.length || down.length ? el("div", "rows", ...down, ...across) : null;
}

function action(card) {
  const to = card.card_action;
  if (!to || !to.type || INTERACTIVE.includes(card.card_type)) return null;
  return to.type === 1 ? anchor(to.url, "more", "查看详情 ›") : el("span", "more", "打开小程序 ›");
}

// --- what is touched ---

function asking(context, node) {
  const { card } = context;
  if (!INTERACTIVE.includes(card.card_type)) return [];
  const picked = new Map();
  const parts = [];
  if (card.button_selection) parts.push(dropdown(card.button_selection, context, picked));
  if (card.checkbox) parts.push(options(card.checkbox, context, picked, node));
  for (const one of card.select_list || []) parts.push(dropdown(one, context, picked));
  const chosen = () => Object.fromEntries([...picked].map(([key, ids]) => [key, [...ids]]));
  if (card.submit_button) {
    const send = button(context.words && isOfApp(context) ? context.words : card.submit_button.text, "act style1", () => {
      if (card.checkbox && !picked.get(card.checkbox.question_key)?.size) toast("请先选择");
      else touch(context, node, card.submit_button.key, chosen());
    });
    send.disabled = context.done;
    parts.push(el("div", "acts", send));
  }
  if (card.button_list?.length) parts.push(buttons(context, node, chosen));
  return parts;
}

// What an application puts in the place of a touched button is one word; a bot gives a whole new card.
const isOfApp = (context) => context.bubble.speaker.startsWith("app:");

function buttons(context, node, chosen) {
  const { card, words } = context;
  if (words && isOfApp(context)) {
    const done = button(words, "act style4", () => {});
    done.disabled = true;
    return el("div", "acts", done);
  }
  const all = card.button_list.map((one) => {
    if (one.type === 1) return anchor(one.url, `act style${one.style || 1}`, one.text);
    const act = button(one.text, `act style${one.style || 1}`, () => touch(context, node, one.key, chosen()));
    act.disabled = context.done;
    return act;
  });
  return el("div", all.length > 2 ? "acts column" : "acts", ...all);
}

function dropdown(question, context, picked) {
  const select = el("select");
  for (const one of question.option_list || []) {
    const option = el("option", "", one.text);
    option.value = one.id;
    select.append(option);
  }
  select.value = question.selected_id || question.option_list?.[0]?.id || "";
  select.disabled = context.done || Boolean(question.disable);
  select.setAttribute("aria-label", question.title || "选择");
  const pick = () => picked.set(question.question_key, new Set([select.value]));
  pick();
  select.addEventListener("change", pick);
  return el("label", "selection", el("span", "", question.title || ""), select);
}

let groups = 0;
function options(question, context, picked) {
  const ids = new Set((question.option_list || []).filter((one) => one.is_checked).map((one) => one.id));
  picked.set(question.question_key, ids);
  groups += 1;
  const all = (question.option_list || []).map((one) => {
    const box = el("input");
    box.type = question.mode === 1 ? "checkbox" : "radio";
    box.name = `vote${groups}`;
    box.checked = ids.has(one.id);
    box.disabled = context.done || Boolean(question.disable);
    box.addEventListener("change", () => {
      if (box.type === "radio") ids.clear();
      if (box.checked) ids.add(one.id);
      else ids.delete(one.id);
    });
    return el("label", "option", box, el("span", "", one.text));
  });
  return el("div", "vote", ...all);
}

function jumps(context, node) {
  const list = context.card.jump_list || [];
  if (!list.length) return [];
  return [el("div", "jumps", ...list.map((one) => {
    // Touching a question asks it (intelligent bots only).
    if (one.type === 3) return button(`${one.title} ›`, "jump", () => attempt("/api/write", { person: view.me.id, chat: context.bubble.chat, text: one.question }));
    return isWeb(one.url) ? anchor(one.url, "jump", `${one.title} ›`) : el("span", "jump", one.title || "");
  }))];
}
