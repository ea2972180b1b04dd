// Writing: text, files, a recording, a place, a link; quoting, mentioning, and an application's menu.

import { attempt, sendFiles } from "./net.js";
import { button, closePopover, el, field, icon, popover, sizeOf, toast } from "./dom.js";
import { appMenu } from "./appmenu.js";
import { samplePicture, sampleFile, sampleVideo } from "./samples.js";
import { brief, chatOf, customerOf, groupOf, personById, speakerName, titleOf, view } from "./state.js";

const MOST_BYTES = 20 * 1048576;
const MOST_FILES = 10;
const ICONS = {
  image: "M4 4h16v16H4zm2 2v9l4-4 4 4 2-2 2 2V6zm9.500 1.500a1.800 1.800 0 1 1 0 3.600 1.800 1.800 0 0 1 0-3.600z",
  file: "M4 5h6l2 2h8v12H4zm2 4v8h12V9z",
  voice: "M12 3a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3zM6 11h2a4 4 0 0 0 8 0h2a6 6 0 0 1-5 5.900V20h3v2H8v-2h3v-3.100A6 6 0 0 1 6 11z",
  video: "M3 6h12v4l5-3v10l-5-3v4H3z",
  location: "M12 2a7 7 0 0 0-7 7c0 5 7 13 7 13s7-8 7-13a7 7 0 0 0-7-7zm0 9.500a2.500 2.500 0 1 1 0-5 2.500 2.500 0 0 1 0 5z",
  link: "M10.600 13.400a3 3 0 0 0 4.200 0l3.600-3.600a3 3 0 0 0-4.200-4.200l-1 1-1.400-1.400 1-1a5 5 0 0 1 7 7l-3.600 3.600a5 5 0 0 1-7 0zm2.800-2.800a3 3 0 0 0-4.200 0l-3.600 3.600a3 3 0 0 0 4.200 4.200l1-1 1.400 1.400-1 1a5 5 0 0 1-7-7l3.600-3.600a5 5 0 0 1 7 0z",
  at: "M12 3a9 9 0 1 0 5 16.500l-1.100-1.700A7 7 0 1 1 19 12v1a1.500 1.500 0 0 1-3 0V8h-2v.6A4.500 4.500 0 1 0 14.700 15 3.500 3.500 0 0 0 21 13v-1a9 9 0 0 0-9-9zm0 6.500a2.500 2.500 0 1 1 0 5 2.500 2.500 0 0 1 0-5z",
};

const PLACEHOLDERS = { group: "输入 @ 提及机器人", serve: "接入后可以回复顾客" };

export class Composer {
  constructor(pane) {
    this.pane = pane;
    this.files = [];
    this.quoted = null;
    this.box = el("textarea");
    const deaf = pane.kind === "group" && !groupOf(pane.place)?.bot;
    this.box.placeholder = (!deaf && PLACEHOLDERS[pane.kind]) || "输入消息，Enter 发送";
    this.box.setAttribute("aria-label", `给${titleOf(pane.place)}的消息`);
    this.send = button("发送", "send", () => this.submit());
    this.send.disabled = true;
    this.count = el("span", "count");
    this.tray = el("div", "tray");
    this.tray.hidden = true;
    this.quoteLine = el("div", "quoteline");
    this.quoteLine.hidden = true;
    this.menu = appMenu(pane);
    this.node = el("div", "composer", this.quoteLine, this.tray, this.makeTools(), this.box, this.send);
    if (this.menu) this.node.append(this.menu);
    this.box.addEventListener("input", () => this.changed());
    this.box.addEventListener("keydown", (event) => this.onKey(event));
    this.box.addEventListener("paste", (event) => { if (event.clipboardData.files.length && this.takesFiles) { event.preventDefault(); this.add(event.clipboardData.files); } });
    this.node.addEventListener("dragover", (event) => { if (this.takesFiles) event.preventDefault(); });
    this.node.addEventListener("drop", (event) => { if (this.takesFiles) { event.preventDefault(); this.add(event.dataTransfer.files); } });
  }

  // Groups without a bot are written to by people and applications; files there go to nobody.
  get takesFiles() {
    return this.pane.kind !== "serve" && !(this.pane.kind === "group" && !groupOf(this.pane.place)?.bot);
  }

  makeTools() {
    const tools = el("div", "tools");
    const tool = (name, title, act) => {
      const node = button("", "", () => act(node), title);
      node.append(icon(ICONS[name]));
      tools.append(node);
    };
    const { kind } = this.pane;
    if (kind === "group") tool("at", "提及", () => this.mention());
    if (this.takesFiles) {
      tool("image", "图片", (node) => this.choose(node, "image", "image/*", samplePicture));
      if (kind !== "group") tool("file", "文件", (node) => this.choose(node, "file", "", sampleFile));
      if (kind !== "group") tool("video", "视频", (node) => this.choose(node, "video", "video/mp4", sampleVideo));
    }
    if (["app", "bot", "kf"].includes(kind)) {
      tool("voice", "语音", (node) => this.speak(node));
      tool("location", "位置", (node) => this.form(node, "发送位置", "location", [["name", "名称", "腾讯大厦"], ["address", "地址", "深圳市南山区深南大道 10000 号"], ["latitude", "纬度", "22.5405"], ["longitude", "经度", "113.9345"]]));
      if (kind !== "bot") tool("link", "链接", (node) => this.form(node, "分享链接", "link", [["title", "标题", "差旅管理办法"], ["desc", "描述", "2026 年修订版"], ["url", "网址", `${location.origin}/`]]));
    }
    tools.append(el("span", "grow"), this.count);
    return tools;
  }

  // --- files ---

  choose(node, kind, accept, sample) {
    const input = el("input");
    Object.assign(input, { type: "file", accept, multiple: kind === "image" });
    input.addEventListener("change", () => { closePopover(); this.add(input.files, kind); });
    popover(node, el("div", "choices", button("从电脑选择…", "", () => input.click()), button("用示例", "", async () => {
      closePopover();
      this.put(await sample());
    })));
  }

  add(list, kind = "") {
    for (const file of list) {
      const guessed = kind === "file" ? "file" : file.type.startsWith("image/") ? "image" : file.type === "video/mp4" ? "video" : "file";
      this.put({ kind: kind || guessed, name: file.name, blob: file });
    }
  }

  put(file) {
    const total = this.files.reduce((sum, one) => sum + one.blob.size, file.blob.size);
    if (total > MOST_BYTES || this.files.length >= MOST_FILES) { toast(`一次最多 ${MOST_FILES} 个文件、${sizeOf(MOST_BYTES)}`); return; }
    this.files.push(file);
    this.drawTray();
    this.box.focus();
  }

  drawTray() {
    this.tray.hidden = !this.files.length;
    this.tray.replaceChildren(...this.files.map((file) => {
      const chip = el("span", "chip", el("b", "", { image: "图片", video: "视频", file: "文件" }[file.kind]), ` ${file.name} `, el("small", "", sizeOf(file.blob.size)));
      chip.append(button("✕", "", () => { this.files = this.files.filter((one) => one !== file); this.drawTray(); }, "移除"));
      return chip;
    }));
    this.changed();
  }

  // --- what is neither a text nor a file ---

  speak(node) {
    const [label, input] = field("说的话", "帮我查一下年假还有几天");
    const say = button("发送语音", "primary", () => { closePopover(); this.say("voice", { text: input.value.trim() || "嗯" }); });
    popover(node, el("b", "", "发送一段语音"), label, el("small", "", this.pane.kind === "kf" ? "微信客服不给转写结果，应用收到的是录音。" : "平台把语音转成文字交给应用。"), el("div", "ends", say));
  }

  form(node, title, kind, fields) {
    const made = fields.map(([name, label, value]) => [name, ...field(label, value)]);
    const send = button("发送", "primary", () => { closePopover(); this.say(kind, Object.fromEntries(made.map(([name, , input]) => [name, input.value.trim()]))); });
    popover(node, el("b", "", title), ...made.map(([, label]) => label), el("div", "ends", send));
  }

  say(kind, fields) {
    this.pane.toEnd();
    return attempt("/api/say", { person: view.me.id, chat: chatOf(this.pane.place), kind, fields });
  }

  // --- quoting and mentioning ---

  quote(bubble) {
    this.quoted = bubble;
    this.quoteLine.hidden = !bubble;
    if (bubble) this.quoteLine.replaceChildren(el("span", "", `${speakerName(bubble.speaker)}：${brief(bubble)}`), button("✕", "", () => this.quote(null), "取消引用"));
    this.box.focus();
  }

  mention(typed = false) {
    this.node.querySelector(".menu")?.remove();
    const group = groupOf(this.pane.place);
    const names = [group.bot, ...group.members.filter((id) => id !== view.me.id).map((id) => personById(id)?.name || id)].filter(Boolean);
    const menu = el("div", "menu", ...names.map((name) => button(name, "", () => {
      const at = this.box.selectionStart;
      this.box.value = `${this.box.value.slice(0, at)}${typed ? "" : "@"}${name} ${this.box.value.slice(at)}`;
      menu.remove();
      this.changed();
      this.box.focus();
    })));
    menu.firstChild?.classList.add("chosen");
    this.node.append(menu);
    this.box.focus();
  }

  // --- typing and sending ---

  fill(text) {
    this.box.value = text;
    this.changed();
    this.box.focus();
  }

  changed() {
    this.send.disabled = this.box.disabled || (!this.box.value.trim() && !this.files.length);
    const bytes = new TextEncoder().encode(this.box.value).length;
    this.count.textContent = bytes > 200 ? `${bytes} 字节` : "";
    this.node.querySelector(".menu")?.remove();
    if (this.pane.kind === "group" && /(^|\s)@$/.test(this.box.value.slice(0, this.box.selectionStart))) this.mention(true);
  }

  onKey(event) {
    // While a Chinese input method composes, Enter belongs to it.
    if (event.isComposing || event.keyCode === 229) return;
    const menu = this.node.querySelector(".menu");
    if (menu && event.key === "Enter") { event.preventDefault(); menu.querySelector(".chosen").click(); return; }
    if (menu && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      const all = [...menu.children];
      const at = all.findIndex((one) => one.classList.contains("chosen"));
      all[at].classList.remove("chosen");
      all[(at + (event.key === "ArrowDown" ? 1 : all.length - 1)) % all.length].classList.add("chosen");
      return;
    }
    if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); this.submit(); }
  }

  async submit() {
    const { files, quoted } = this;
    const text = this.box.value;
    if (!text.trim() && !files.length) return;
    this.box.value = "";
    this.files = [];
    this.quote(null);
    this.drawTray();
    this.pane.toEnd();
    const done = await this.deliver(text.replace(/\s+$/, ""), files, quoted);
    if (!done && !this.box.value) { this.files = files; this.fill(text); this.drawTray(); if (quoted) this.quote(quoted); }
  }

  deliver(text, files, quoted) {
    const person = view.me.id;
    const chat = chatOf(this.pane.place);
    if (this.pane.kind === "serve") return attempt("/api/serve", { servicer: person, act: "write", customer: customerOf(this.pane.place), chat, text });
    if (files.length) return sendFiles({ person, chat, text }, files);
    return attempt("/api/write", { person, chat, text, quote: quoted ? quoted.number : 0 });
  }
}
