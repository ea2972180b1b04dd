// The official Node SDK as a client: says what happens, a JSON object a line, and answers.
// Arguments: folder of the installed SDK, address, BotID, Secret.
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
client.on("message.text", async (frame) => {
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
