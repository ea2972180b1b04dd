// The small pictures beside names.

import { el, icon } from "./dom.js";
import { isCustomer, kindOf, personById, state } from "./state.js";

const ICONS = {
  app: "M5 5h6v6H5zM13 5h6v6h-6zM5 13h6v6H5zM13 13h6v6h-6z",
  bot: "M11 3h2v3h4a2 2 0 0 1 2 2v9a2 2 0 0 1-2 2H7a2 2 0 0 1-2-2V8a2 2 0 0 1 2-2h4zM8.5 10.5v3h2v-3zM13.5 10.5v3h2v-3z",
  group: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zm8 0a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM2 18c0-3 3-5 6-5s6 2 6 5v1H2zm13.500 1H22v-1c0-2.700-2.600-4.800-5.500-5-.7 0-1.400.1-2 .4 1.200 1.100 2 2.600 2 4.300z",
  kf: "M12 3a8 8 0 0 0-8 8v5a3 3 0 0 0 3 3h1v-7H6v-1a6 6 0 0 1 12 0v1h-2v7h1.500a2 2 0 0 1-1.500 1h-3v2h3a4 4 0 0 0 4-4v-6a8 8 0 0 0-8-8z",
  robot: "M12 3l2 4h5v2h-1.500l1.500 9H5l1.500-9H5V7h5zM9 11v3h2v-3zm4 0v3h2v-3z",
};

export function avatar(speaker) {
  const kind = speaker.includes(":") ? kindOf(speaker) : "";
  if (kind && kind !== "serve") return el("div", `avatar ${kind}`, icon(ICONS[kind] || ICONS.app, ""));
  const id = kind ? speaker.split("|")[1] : speaker;
  const name = (personById(id)?.name || id).slice(-2);
  if (isCustomer(id)) return el("div", `avatar customer h${(state.customers.findIndex((found) => found.id === id) + 4) % 8}`, name);
  const at = state.people.findIndex((found) => found.id === id);
  return el("div", `avatar h${(at < 0 ? 7 : at) % 8}`, name);
}
