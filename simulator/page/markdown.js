// The Markdown that WeCom draws, as DOM nodes. Foreign text only ever becomes text nodes, so
// nothing in it can become an element, an attribute or a script. Addresses are http(s) alone.

const el = (name, className, ...children) => {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
};

const INLINE = [
  // Order matters: what stands in code is not looked at again.
  [/`([^`\n]+)`/, (m) => el("code", "", m[1])],
  [/\[([^\]\n]*)\]\((https?:\/\/[^\s)]+)\)/, (m) => link(m[2], inline(m[1] || m[2]))],
  [/<font color="?(info|comment|warning)"?>(.*?)<\/font>/, (m) => el("span", m[1], ...inline(m[2]))],
  [/\*\*([^\n]+?)\*\*/, (m) => el("strong", "", ...inline(m[1]))],
  [/__([^\n]+?)__/, (m) => el("strong", "", ...inline(m[1]))],
  [/~~([^\n]+?)~~/, (m) => el("s", "", ...inline(m[1]))],
  [/(?<![*\w])\*([^*\s][^*\n]*?)\*(?![*\w])/, (m) => el("em", "", ...inline(m[1]))],
  [/https?:\/\/[^\s<>()\u3000-\u303f\uff00-\uffef]+/, (m) => link(m[0], [m[0]])],
];

function link(address, children) {
  const node = el("a", "", ...children);
  node.href = address;
  node.target = "_blank";
  node.rel = "noopener noreferrer nofollow";
  return node;
}

export function inline(text) {
  let first = null;
  for (const [pattern, build] of INLINE) {
    const match = pattern.exec(text);
    if (match && (!first || match.index < first.match.index)) first = { match, build };
  }
  if (!first) return text ? [text] : [];
  const { match, build } = first;
  const after = match.index + match[0].length;
  return [...(match.index ? [text.slice(0, match.index)] : []), build(match), ...inline(text.slice(after))];
}

const FENCE = /^\s*(`{3,}|~{3,})\s*([\w+#.-]*)\s*$/;
const HEADING = /^(#{1,6})\s+(.*?)\s*#*\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const RULE = /^\s*([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^\s*>\s?(.*)$/;
const DASHES = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

export function render(text) {
  const holder = document.createDocumentFragment();
  holder.append(...blocks(text.replace(/\r\n?/g, "\n").split("\n")));
  return holder;
}

function blocks(lines) {
  const out = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) { at += 1; continue; }
    const [node, next] = block(lines, at);
    out.push(node);
    at = next;
  }
  return out;
}

function block(lines, at) {
  const line = lines[at];
  let match;
  if ((match = FENCE.exec(line))) return code(lines, at, match);
  if ((match = HEADING.exec(line))) return [el(`h${match[1].length}`, "", ...inline(match[2])), at + 1];
  if (RULE.test(line)) return [el("hr"), at + 1];
  if (QUOTE.test(line)) return quote(lines, at);
  if (isTable(lines, at)) return table(lines, at);
  if (ITEM.test(line)) return list(lines, at);
  return paragraph(lines, at);
}

function code(lines, at, match) {
  // An open fence is drawn as code too: a streamed answer is in this state most of the time.
  let end = at + 1;
  while (end < lines.length && !lines[end].trim().startsWith(match[1])) end += 1;
  const pre = el("pre", "", el("code", "", lines.slice(at + 1, end).join("\n")));
  if (match[2]) pre.dataset.language = match[2];
  return [pre, end + 1];
}

function quote(lines, at) {
  const inner = [];
  let match;
  while (at < lines.length && (match = QUOTE.exec(lines[at]))) { inner.push(match[1]); at += 1; }
  return [el("blockquote", "", ...blocks(inner)), at];
}

const isTable = (lines, at) => lines[at].includes("|") && at + 1 < lines.length && lines[at + 1].includes("-") && DASHES.test(lines[at + 1]);

function cells(line) {
  return line.trim().replace(/^\|/, "").replace(/\|$/, "").split("|").map((cell) => cell.trim());
}

function table(lines, at) {
  const head = cells(lines[at]);
  const rows = [];
  let next = at + 2;
  while (next < lines.length && lines[next].includes("|") && lines[next].trim()) { rows.push(cells(lines[next])); next += 1; }
  const row = (name, values) => el("tr", "", ...head.map((_, index) => el(name, "", ...inline(values[index] ?? ""))));
  return [el("div", "scroll", el("table", "", el("thead", "", row("th", head)), el("tbody", "", ...rows.map((values) => row("td", values))))), next];
}

function list(lines, at) {
  const [, indent, mark] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(mark);
  const node = el(ordered ? "ol" : "ul");
  if (ordered) node.start = parseInt(mark, 10);
  while (at < lines.length) {
    const match = ITEM.exec(lines[at]);
    if (!match || match[1].length < indent.length || /\d/.test(match[2]) !== ordered) break;
    if (match[1].length > indent.length + 1 && node.lastChild) {
      const [inner, next] = list(lines, at);
      node.lastChild.append(inner);
      at = next;
      continue;
    }
    node.append(el("li", "", ...inline(match[3])));
    at += 1;
    while (at < lines.length && /^\s{2,}\S/.test(lines[at]) && !ITEM.test(lines[at])) {
      node.lastChild.append("\n", ...inline(lines[at].trim()));
      at += 1;
    }
  }
  return [node, at];
}

function paragraph(lines, at) {
  const inner = [lines[at]];
  at += 1;
  while (at < lines.length && lines[at].trim() && !FENCE.test(lines[at]) && !HEADING.test(lines[at]) && !RULE.test(lines[at]) && !QUOTE.test(lines[at]) && !ITEM.test(lines[at]) && !isTable(lines, at)) {
    inner.push(lines[at]);
    at += 1;
  }
  return [el("p", "", ...inline(inner.join("\n"))), at];
}
