// The official Node SDK as a client: says what happens, a JSON object a line, and answers.
// Arguments: folder of the installed SDK, address, BotID, Secret.
import { createHash } from "node:crypto";
import { createRequire } from "node:module";

const [folder, wsUrl, botId, secret] = process.argv.slice(2);
const { WSClient, generateReqId } = createRequire(`${folder}/`)("@wecom/aibot-node-sdk");
const say = (event, data = {}) => process.stdout.write(`${JSON.stringify({ event, ...data })}\n`);
const logger = { debug() {}, info() {}, warn() {}, error() {} };
const client = new WSClient({ wsUrl, botId, secret, logger, reconnectInterval: 50, maxReconnectAttempts: 3, maxAuthFailureAttempts: 1 });

client.on("authenticated", () => say("authenticated"));
client.on("disconnected", (reason) => say("disconnected", { reason: String(reason) }));
client.on("error", (error) => say("error", { message: String(error && error.message) }));
client.on("event.disconnected_event", () => say("kicked"));
client.on("event.enter_chat", async (frame) => {
  await client.replyWelcome(frame, { msgtype: "text", text: { content: "欢迎" } });
  say("welcomed");
});
const card = {
  card_type: "button_interaction",
  main_title: { title: "请选择" },
  button_list: [{ text: "人工", style: 1, key: "转人工" }],
  task_id: "task-1",
};
const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");
const failed = (error) => say("failed", { message: String(error && (error.message || error.errmsg)), errcode: error && error.errcode });

client.on("event.template_card_event", async (frame) => {
  const changed = { ...card, main_title: { title: "已选择" } };
  await client.updateTemplateCard(frame, changed).then((ack) => say("updated", { errcode: ack.errcode }), failed);
});
client.on("event.feedback_event", (frame) => say("rated", { feedback: frame.body.event.feedback_event }));
// Pictures and films go back the same way: fetched, decrypted, uploaded, sent twice.
for (const kind of ["image", "video"]) {
  client.on(`message.${kind}`, async (frame) => {
    try {
      const { url, aeskey } = frame.body[kind];
      const { buffer, filename } = await client.downloadFile(url, aeskey);
      say("downloaded", { digest: digest(buffer), filename });
      const done = await client.uploadMedia(buffer, { type: kind, filename: filename || "a" });
      await client.replyMedia(frame, kind, done.media_id);
      await client.sendMediaMessage(frame.body.from.userid, kind, done.media_id);
      say("sent", { type: done.type });
    } catch (error) {
      failed(error);
    }
  });
}
client.on("message.text", async (frame) => {
  if (frame.body.text.content === "卡片") {
    await client.replyTemplateCard(frame, card, { id: "rate-card" }).then((ack) => say("carded", { errcode: ack.errcode }), failed);
    return;
  }
  if (frame.body.text.content === "流式卡片") {
    try {
      await client.replyStreamWithCard(frame, "s", "一", false, { templateCard: card, streamFeedback: { id: "rate-me" } });
      await client.replyStreamWithCard(frame, "s", "一二", true);
      say("carded", { errcode: 0 });
    } catch (error) {
      failed(error);
    }
    return;
  }
  say("text", { text: frame.body.text.content, msgid: frame.body.msgid });
  const id = generateReqId("stream");
  try {
    await client.replyStream(frame, id, "一", false);
    await client.replyStream(frame, id, "一二", false);
    const ack = await client.replyStream(frame, id, "一二三", true);
    say("replied", { errcode: ack.errcode });
  } catch (error) {
    say("refused", { errcode: error.errcode });
  }
});
client.on("message.file", async (frame) => {
  // Opens the file and sends it back: what arrives at the person went down and up through the SDK.
  try {
    const { url, aeskey } = frame.body.file;
    const { buffer, filename } = await client.downloadFile(url, aeskey);
    const { media_id } = await client.uploadMedia(buffer, { type: "file", filename });
    const ack = await client.replyMedia(frame, "file", media_id);
    say("returned", { filename, size: buffer.length, errcode: ack.errcode });
  } catch (error) {
    say("refused", { errcode: error.errcode, message: String(error && error.message) });
  }
});
client.connect();
process.stdin.on("end", () => { client.disconnect(); process.exit(0); }).resume();
