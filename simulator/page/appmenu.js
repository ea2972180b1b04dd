// The menu at the bottom of an application's chat (自定义菜单), and what touching each kind of entry asks for.

import { attempt } from "./net.js";
import { button, closePopover, el, field, isWeb, popover } from "./dom.js";
import { appOf, view } from "./state.js";

export function appMenu(pane) {
  const app = pane.kind === "app" ? appOf(pane.place) : null;
  if (!app?.menu?.length) return null;
  const node = el("nav", "appmenu");
  node.setAttribute("aria-label", "应用菜单");
  node.append(...app.menu.map((entry) => {
    const below = entry.sub_button || [];
    const top = button(below.length ? `≡ ${entry.name}` : entry.name, "", () => {
      if (!below.length) touch(pane, app, entry, top);
      else popover(top, el("div", "choices", ...below.map((one) => button(one.name, "", () => { closePopover(); touch(pane, app, one, top); }))));
    });
    return top;
  }));
  return node;
}

function touch(pane, app, entry, node) {
  const send = (result = {}) => { pane.toEnd(); return attempt("/api/menu", { person: view.me.id, app: app.id, entry: entry.key || entry.url || entry.pagepath || entry.name, result }); };
  if (entry.type.startsWith("scancode")) {
    const [label, input] = field("扫到的内容", "ASSET-2026-0042");
    popover(node, el("b", "", entry.name), label, el("div", "ends", button("扫码", "primary", () => { closePopover(); send({ "ScanCodeInfo.ScanType": "qrcode", "ScanCodeInfo.ScanResult": input.value }); })));
  } else if (entry.type === "location_select") {
    const [label, input] = field("地点", "深圳市南山区腾讯大厦");
    popover(node, el("b", "", entry.name), label, el("div", "ends", button("发送位置", "primary", () => { closePopover(); send({ "SendLocationInfo.Location_X": "22.5405", "SendLocationInfo.Location_Y": "113.9345", "SendLocationInfo.Label": input.value }); })));
  } else {
    send();
    if (entry.type === "view" && isWeb(entry.url)) open(entry.url, "_blank", "noopener,noreferrer");
  }
}
