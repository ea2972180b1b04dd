// Requests to the simulator, and the stream of what changes.

import { toast } from "./dom.js";

async function answered(path, options) {
  const answer = await fetch(path, options);
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error || `HTTP ${answer.status}`);
  return value;
}

const posted = (body) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

async function told(asking) {
  try {
    return await asking;
  } catch (error) {
    toast(error instanceof TypeError ? "模拟器没有应答" : `未成功：${error.message}`);
    return null;
  }
}

// The answer, or null after a word about what went wrong.
export const attempt = (path, body) => told(answered(path, body === undefined ? {} : posted(body)));

// A message with files: a form whose files are named after their kinds.
export function sendFiles(fields, files) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  for (const { kind, blob, name } of files) form.append(kind, blob, name);
  return told(answered("/api/files", { method: "POST", body: form }));
}

// Only once changes are heard is the state asked for, so that none falls in between.
export function listen({ onHello, onBubble, onEntry }) {
  const feed = new EventSource("/api/feed");
  let lost = false;
  feed.addEventListener("bubble", (event) => onBubble(JSON.parse(event.data)));
  feed.addEventListener("entry", (event) => onEntry(JSON.parse(event.data)));
  feed.addEventListener("reload", () => { feed.close(); lost = true; setTimeout(() => listen({ onHello, onBubble, onEntry }), 300); });
  feed.addEventListener("hello", () => { lost = false; onHello(); });
  feed.addEventListener("error", () => { if (!lost) toast("与模拟器的连接断开，正在重连"); lost = true; });
}
