// The chat page: one developer, several people, and what the platform shows each of them.
// State comes from /api/state and /api/bubbles once, and then from /api/feed as it changes.

import { attempt, listen } from "./net.js";
import { $, closePopover } from "./dom.js";
import { changesState, noted, remember } from "./journal.js";
import { drawFaultCount, onRefresh, openPanel, refreshPanel } from "./panel.js";
import { Pane } from "./panes.js";
import { drawList, drawRail } from "./people.js";
import { BUBBLES, bubbles, chatOf, concerns, entries, isCustomer, kindOf, merged, ownerOf, personById, placesOf, readersOf, state, store, unread, view } from "./state.js";

const wish = new URLSearchParams(location.search);
const panes = []; // at most two side by side: applications left, bots and groups right
const ENTRY = 60_000; // ms in which a chat that is opened again was not left
let front = 0;
view.strip = wish.has("strip") || localStorage.getItem("strip") === "1";

// --- who is looked through ---

async function become(id) {
  closePopover();
  view.me = personById(id) || state.people[0];
  localStorage.setItem("person", view.me.id);
  document.body.classList.toggle("wechat", isCustomer(view.me.id));
  await load(`/api/bubbles?person=${encodeURIComponent(view.me.id)}`, view.me.id);
  if (view.me.serves) {
    await Promise.all(state.sessions.map((one) => load(`/api/bubbles?person=${encodeURIComponent(one.customer)}&chat=${encodeURIComponent(`kf:${one.desk}`)}`, one.customer)));
  }
  const places = placesOf(view.me).map(([place]) => place);
  const keep = panes.map((pane) => pane.place);
  panes.length = 0;
  const first = (...kinds) => places.find((place) => keep.includes(place) && kinds.includes(kindOf(place))) || places.find((place) => kinds.includes(kindOf(place)));
  for (const place of [first("app"), first("bot", "group"), first("kf")]) if (place) panes.push(new Pane(place));
  front = Math.min(front, panes.length - 1);
  drawPanes();
  await loadEntries();
  for (const pane of panes) opened(pane.place);
}

async function load(path, owner) {
  const all = await attempt(path);
  for (const [chat, found] of Object.entries(all || {})) {
    const where = `${chat}|${ownerOf(chat, owner)}`;
    bubbles.set(where, merged(found, bubbles.get(where)));
  }
}

async function loadEntries() {
  const found = await attempt("/api/journal");
  entries.length = 0;
  for (const entry of found || []) { entries.push(entry); noted(entry); }
  for (const pane of panes) { pane.fill(); pane.drawStrip(); }
}

function show(place) {
  let at = panes.findIndex((pane) => pane.place === place);
  if (at < 0) {
    at = isCustomer(view.me.id) || ["app", "kf"].includes(kindOf(place)) || !panes.length ? 0 : 1;
    panes[at] = new Pane(place);
  }
  front = at;
  drawPanes();
  opened(place);
  panes[at].box.focus();
}

function opened(place) {
  unread.delete(`${place}\n${view.me.id}`);
  drawPeople();
  if (["app", "bot", "kf"].includes(kindOf(place))) enter(place);
}

// A client tells of each entry once, however often the page draws the chat meanwhile.
const entered = new Map();
function enter(place) {
  const mark = `${place}\n${view.me.id}`;
  if (Date.now() - (entered.get(mark) ?? -ENTRY) < ENTRY) return;
  entered.set(mark, Date.now());
  attempt("/api/enter", { person: view.me.id, chat: place });
}

function drawPeople() {
  drawRail(become);
  drawList(panes, front, show);
}

function drawPanes() {
  $("panes").replaceChildren(...panes.map((pane) => pane.node));
  panes.forEach((pane, index) => {
    pane.node.classList.toggle("front", index === front);
    pane.drawStrip();
    pane.toEnd();
  });
  drawPeople();
}

// --- changes as they come ---

function onBubble(bubble) {
  const where = `${bubble.chat}|${bubble.person || ""}`;
  const found = bubbles.get(where) || new Map();
  const isNew = !found.has(bubble.number);
  found.set(bubble.number, bubble);
  if (found.size > BUBBLES) found.delete(found.keys().next().value);
  bubbles.set(where, found);
  if (!view.me) return;
  for (const [place, reader] of readersOf(bubble)) {
    const pane = reader === view.me.id && panes.find((one) => one.place === place);
    if (pane) pending.set(`${place}|${bubble.number}`, [pane, bubble]);
    else if (isNew && concerns(bubble, place, reader)) unread.set(`${place}\n${reader}`, (unread.get(`${place}\n${reader}`) || 0) + 1);
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
    for (const [pane, bubble] of pending.values()) if (panes.includes(pane)) pane.put(bubble);
    pending.clear();
    drawPeople();
  }, 30);
}

function onEntry(entry) {
  remember(entry);
  if (!view.me) return;
  for (const pane of panes) {
    pane.addEntry(entry);
    if (!["given_up", "failed", "acknowledged"].includes(entry.kind) || entry.chat !== chatOf(pane.place)) continue;
    const mine = [...store(pane.place).values()].find((bubble) => bubble.msg_id === entry.msg_id && bubble.speaker === view.me.id);
    if (mine) pane.put(mine);
  }
  if (changesState(entry) || isUnknownGroup(entry)) refreshSoon();
}

// An application may create a group at any time.
const isUnknownGroup = (entry) => kindOf(entry.chat || "") === "group" && !state.groups.some((group) => `group:${group.id}` === entry.chat);

let refresh = 0;
function refreshSoon() {
  clearTimeout(refresh);
  refresh = setTimeout(async () => {
    const found = await attempt("/api/state");
    if (!found || !view.me) return;
    Object.assign(state, found);
    view.me = personById(view.me.id) || state.people[0];
    for (const pane of panes) pane.drawHead();
    drawPeople();
    drawFaultCount();
    refreshPanel();
  }, 120);
}

// --- the frame ---

function setStrip(on) {
  view.strip = on;
  localStorage.setItem("strip", on ? "1" : "0");
  $("toggle-strip").setAttribute("aria-pressed", String(on));
  for (const pane of panes) { pane.fill(); pane.drawStrip(); }
}

onRefresh(refreshSoon);
$("open-panel").addEventListener("click", () => { if ($("panel").hidden) openPanel(); else $("panel").hidden = true; });
$("close-panel").addEventListener("click", () => { $("panel").hidden = true; });
$("toggle-strip").addEventListener("click", () => setStrip(!view.strip));
for (const one of document.querySelectorAll("[data-tab]")) one.addEventListener("click", () => openPanel(one.dataset.tab));
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName);
  const person = event.altKey && /^[1-9]$/.test(event.key) ? [...state.people, ...state.customers][event.key - 1] : null;
  if (person) { event.preventDefault(); become(person.id); }
  else if (event.key === "Escape") { if (!closePopover()) { $("panel").hidden = true; document.querySelector(".menu")?.remove(); } }
  else if (event.key === "?" && !typing) $("help").showModal();
});

async function start() {
  const found = await attempt("/api/state");
  if (!found) { setTimeout(start, 1000); return; }
  Object.assign(state, found);
  $("toggle-strip").setAttribute("aria-pressed", String(view.strip));
  drawFaultCount();
  await become(view.me ? view.me.id : wish.get("person") || localStorage.getItem("person") || state.people[0].id);
  for (const chat of wish.getAll("chat")) {
    const place = placesOf(view.me).map(([one]) => one).find((one) => one.startsWith(chat));
    if (place) show(place);
  }
  wish.delete("chat");
  if (wish.has("panel")) { openPanel(wish.get("panel")); wish.delete("panel"); }
}

// A picture of the page has to end: `?still` leaves the stream of changes out.
if (wish.has("still")) start();
else listen({ onHello: () => { bubbles.clear(); start(); }, onBubble, onEntry });
