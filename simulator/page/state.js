// What the page knows: the corporation, bubbles, entries, who is looked through.
//
// A place is where somebody reads and writes: a chat's key, or `serve:<open_kfid>|<customer>` for
// the person who serves a customer.

export const ENTRIES = 2000;
export const BUBBLES = 500;

export const state = { people: [], customers: [], apps: [], bots: [], groups: [], desks: [], robots: [], sessions: [], faults: [], switches: {}, struck: {}, kf: { url: "", receiving: {} } };
export const bubbles = new Map(); // "chat|owner" → Map(number → bubble)
export const unread = new Map(); // "place\nreader" → count
export const entries = []; // the newest last
export const view = { me: null, strip: false };

export const kindOf = (place) => place.split(":", 1)[0];
export const nameOf = (place) => place.slice(place.indexOf(":") + 1);
export const servePlace = (desk, customer) => `serve:${desk}|${customer}`;
export const chatOf = (place) => (kindOf(place) === "serve" ? `kf:${nameOf(place).split("|")[0]}` : place);
export const customerOf = (place) => nameOf(place).split("|")[1];

export function ownerOf(place, reader) {
  if (kindOf(place) === "group") return "";
  return kindOf(place) === "serve" ? customerOf(place) : reader;
}

export const store = (place, reader = view.me.id) => bubbles.get(`${chatOf(place)}|${ownerOf(place, reader)}`) || new Map();

export const isCustomer = (id) => state.customers.some((found) => found.id === id);
export const personById = (id) => state.people.find((found) => found.id === id) || state.customers.find((found) => found.id === id);
export const groupOf = (place) => state.groups.find((found) => found.id === nameOf(place));
export const appOf = (place) => state.apps.find((found) => String(found.id) === nameOf(place));
export const botOf = (place) => {
  const group = kindOf(place) === "group" ? groupOf(place) : null;
  return group ? state.bots.find((found) => found.name === group.bot) : state.bots.find((found) => found.id === nameOf(place));
};

const NO_SESSION = { state: 4, servicer: "" };
export const sessionOf = (place, customer = customerOf(place)) => {
  const desk = nameOf(chatOf(place));
  return state.sessions.find((found) => found.desk === desk && found.customer === customer) || NO_SESSION;
};

// Everything that somebody has in the list: chats, then the customers whom they may serve.
export function placesOf(person) {
  const served = person.serves ? state.sessions.map((found) => [servePlace(found.desk, found.customer), personById(found.customer)?.name || found.customer]) : [];
  return [...person.chats, ...served];
}

export const titleOf = (place) => (placesOf(view.me).find(([found]) => found === place) || [place, place])[1];

const NAMES = {
  app: (name) => state.apps.find((found) => String(found.id) === name)?.name,
  bot: (name) => state.bots.find((found) => found.id === name)?.name,
  kf: (name) => state.desks.find((found) => found.id === name)?.name,
  robot: (name) => name,
};

export function speakerName(speaker) {
  if (!speaker.includes(":")) return personById(speaker)?.name || speaker;
  return NAMES[kindOf(speaker)]?.(nameOf(speaker)) || speaker;
}

// Who reads a new bubble, and in which place.
export function readersOf(bubble) {
  const kind = kindOf(bubble.chat);
  if (kind === "group") return (groupOf(bubble.chat)?.members || []).map((id) => [bubble.chat, id]);
  const readers = [[bubble.chat, bubble.person]];
  if (kind === "kf") {
    const place = servePlace(nameOf(bubble.chat), bubble.person);
    for (const person of state.people) if (person.serves) readers.push([place, person.id]);
  }
  return readers;
}

// Whether a reader has to look: a customer concerns those who wait for one, and the one who serves.
export function concerns(bubble, place, reader) {
  if (bubble.speaker === reader) return false;
  if (kindOf(place) !== "serve") return true;
  const session = sessionOf(place);
  return bubble.speaker === bubble.person && (session.state === 2 || (session.state === 3 && session.servicer === reader));
}

// What was asked for and what the stream of changes brought meanwhile may cross: the newer version stays.
export function merged(found, known = new Map()) {
  const all = new Map(found.map((bubble) => [bubble.number, bubble]));
  const last = found.length ? found.at(-1).number : 0;
  for (const [number, bubble] of known) {
    const other = all.get(number);
    if (other ? (bubble.version || 0) > (other.version || 0) : number > last) all.set(number, bubble);
  }
  return all;
}

const LABELS = { image: "图片", voice: "语音", video: "视频", file: "文件" };
// A line of what was said, without the signs of Markdown.
export const plain = (text) => text.replace(/<\/?font[^>]*>/g, "").replace(/[#*`>|]+/g, "").replace(/\[(image|voice|video|file)\]/g, (_, kind) => `[${LABELS[kind]}]`).replace(/\s+/g, " ");
export const brief = (bubble) => (bubble.expired ? "[回复超时]" : plain(bubble.text || bubble.thoughts || "…").slice(0, 40));
