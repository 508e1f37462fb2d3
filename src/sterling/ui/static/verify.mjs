// Check a Sterling bundle: in a browser, or with `node verify.mjs FILE.tar [--pin KEY] [--json]`.
//
// One file. It uses WebCrypto alone, sends nothing anywhere, and follows
// docs/reference/bundle-format.md. `verifyBundle(bytes, pin)` gives the same
// answer as `sterling verify FILE.tar --json`: 0 holds, 3 broken, 4 cannot judge.
// Where the runtime has no Ed25519 no signature is checked, and the best answer is 4.

const BLOCK = 512, LINE_MAX = 1 << 20, MEMBERS_MAX = 250000, TEXT_MAX = 1 << 26;
const HEX64 = /^[0-9a-f]{64}$/;
const MEMBER = new RegExp(
  "^(?:(?:blobs|copies)/[0-9a-f]{64}|(?:checkpoints|entries)\\.jsonl|(?:keys|manifest)\\.json|copies\\.bin" +
  "|contracts/[a-z][a-z0-9.-]*@[0-9]+\\.[0-9]+\\.json)$");
const ORIGIN = /^sterling\/[a-z0-9][a-z0-9-]{0,79}$/;
const KEY_NAME = /^[\x21-\x2a\x2c-\x7e]{1,200}$/;
const ENVELOPE = new Set(
  ["v", "kind", "at_us", "actor", "payload", "contract", "subject", "run", "step", "fence", "trace"]);
const encode = (text) => new TextEncoder().encode(text);
const decode = (bytes) => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isHash = (value) => typeof value === "string" && HEX64.test(value);
const isInteger = (value) => Number.isSafeInteger(value);
const has = (value, name) => Object.prototype.hasOwnProperty.call(value, name);
const zero = (bytes) => bytes.every((byte) => byte === 0);

class Bad extends Error {
  constructor(member, code, message, low = null, high = null) {
    super(message);
    this.place = { member, low, high, code, message };
  }
}
const malformed = (member, message) => new Bad(member, "bundle.malformed", message);
const badEntry = (index, code, message) => new Bad("entries.jsonl", "integrity." + code, message, index, index);

// Bytes and hashes

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const same = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);

function join(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const sha256 = async (...parts) =>
  new Uint8Array(await crypto.subtle.digest("SHA-256", parts.length === 1 ? parts[0] : join(...parts)));
const nodeHash = (left, right) => sha256(Uint8Array.of(1), left, right);

function u64(number) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(number));
  return bytes;
}

function unbase64(text, length) {
  let raw;
  try {
    raw = atob(text);
  } catch {
    throw new Error("no base64");
  }
  if (raw.length !== length || btoa(raw) !== text) throw new Error(`no base64 of ${length} bytes`);
  return Uint8Array.from(raw, (letter) => letter.charCodeAt(0));
}

// Canonical JSON

function canonical(value, depth = 0) {
  if (typeof value === "string") {
    if (/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(value))
      throw new Error("a lone surrogate");
    return JSON.stringify(value);
  }
  if (typeof value === "number") {
    const isWhole = Number.isInteger(value) && Math.abs(value) < 1e21;
    if (!Number.isFinite(value) || (isWhole && !isInteger(value))) throw new Error("a number too large");
    return JSON.stringify(value);
  }
  if (value === null || typeof value === "boolean") return String(value);
  if (depth > 64) throw new Error("nested too deep");
  if (Array.isArray(value)) return "[" + value.map((each) => canonical(each, depth + 1)).join(",") + "]";
  const pairs = Object.keys(value).sort().map((key) => canonical(key) + ":" + canonical(value[key], depth + 1));
  return "{" + pairs.join(",") + "}";
}

function parseCanonical(bytes) {
  const text = decode(bytes);
  const value = JSON.parse(text);
  if (canonical(value) !== text) throw new Error("it is not in canonical form");
  return value;
}

function parseEntry(bytes) {
  if (bytes.length > 64 * 1024) throw new Error("too large");
  const body = parseCanonical(bytes);
  const texts = ["contract", "subject", "run", "step"];
  if (!isObject(body) || !Object.keys(body).every((name) => ENVELOPE.has(name)) || body.v !== 1 ||
      typeof body.kind !== "string" || !isInteger(body.at_us) || !isObject(body.actor) || !has(body, "payload") ||
      !texts.every((name) => !has(body, name) || typeof body[name] === "string"))
    throw new Error("its body is no entry of version 1");
  return body;
}

// The file

function plainHeader(name, size) {
  const block = new Uint8Array(BLOCK);
  const put = (text, at) => block.set(encode(text), at);
  put(name, 0);
  put("0000644\0" + "0000000\0".repeat(2) + size.toString(8).padStart(11, "0") + "\0" + "00000000000\0", 100);
  put(" ".repeat(8) + "0", 148);
  put("ustar\x0000", 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(sum.toString(8).padStart(6, "0") + "\0 ", 148);
  return block;
}

function listMembers(data) {
  const members = new Map();
  let at = 0, last = "";
  for (;;) {
    const head = data.subarray(at, at + BLOCK);
    if (head.length === BLOCK && zero(head)) break;
    const raw = String.fromCharCode(...head.subarray(0, 100)).replace(/\0+$/, "");
    const name = /^[\x21-\x7e]{1,100}$/.test(raw) ? raw : "";
    const digits = String.fromCharCode(...head.subarray(124, 135));
    if (!name || !/^[0-7]{11}$/.test(digits) || !same(head, plainHeader(name, parseInt(digits, 8))))
      throw malformed(name, "it is no plain file with the one header that a bundle gives it");
    if (!MEMBER.test(name)) throw malformed(name, "a bundle has no member of that name");
    if (name <= last) throw malformed(name, "members are not in order, or one is there twice");
    const start = at + BLOCK, end = start + parseInt(digits, 8);
    at = Math.ceil(end / BLOCK) * BLOCK;
    if (at > data.length || !zero(data.subarray(end, at)))
      throw malformed(name, "it is cut short, or something stands behind it");
    members.set(name, [start, end]);
    last = name;
    if (members.size > MEMBERS_MAX) throw new Bad(name, "bundle.too-large", "too many members");
  }
  if (data.length !== at + 2 * BLOCK || !zero(data.subarray(at)))
    throw malformed("", "it does not end with two empty blocks and nothing else");
  return members;
}

// Keys and notes

async function parseVerifier(text) {
  const trimmed = text.trim(), [name, id, ...rest] = trimmed.split("+");
  const typed = unbase64(rest.join("+"), 33), key = typed.subarray(1);
  if (!KEY_NAME.test(name) || typed[0] !== 1 || hex(await keyId(name, key)) !== id)
    throw new Error("no verifier string, or its id does not fit its key");
  return { name, key };
}

const keyId = async (name, key) => (await sha256(encode(name + "\n"), Uint8Array.of(1), key)).subarray(0, 4);

function parseNote(text) {
  const cut = typeof text === "string" && [...text].length <= 16384 ? text.lastIndexOf("\n\n") : -1;
  if (cut < 0) throw new Error("no signed note");
  const signed = text.slice(0, cut) + "\n", tail = text.slice(cut + 2), lines = signed.split("\n");
  const [origin, size, root] = lines;
  if (lines.length !== 4 || !tail.endsWith("\n") || !KEY_NAME.test(origin) || !/^(0|[1-9][0-9]{0,18})$/.test(size))
    throw new Error("no checkpoint of three lines");
  const rows = tail.slice(0, -1).split("\n");
  if (rows.length > 16) throw new Error("too many signatures");
  const signatures = rows.map((row) => {
    const [dash, name, blob, ...more] = row.split(" ");
    if (dash !== "—" || more.length || blob === undefined || !KEY_NAME.test(name))
      throw new Error("no signature line");
    const bytes = unbase64(blob, 68);
    return { name, id: hex(bytes.subarray(0, 4)), signature: bytes.subarray(4) };
  });
  return { origin, size: Number(size), root: unbase64(root, 32), signed: encode(signed), signatures };
}

let canSign;
async function hasEd25519() {
  canSign ??= await crypto.subtle.importKey("raw", new Uint8Array(32), "Ed25519", false, ["verify"])
    .then(() => true, (problem) => problem.name !== "NotSupportedError" && problem.name !== "TypeError");
  return canSign;
}

async function isSignature(key, signature, message) {
  if (!(await hasEd25519())) return true; // The answer says that nothing was checked.
  try {
    const imported = await crypto.subtle.importKey("raw", key, "Ed25519", false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", imported, signature, message);
  } catch {
    return false;
  }
}

async function signedBy(note, name, key) {
  const id = hex(await keyId(name, key));
  const claims = note.signatures.filter((line) => line.name === name && line.id === id);
  for (const claim of claims)
    if (!(await isSignature(key, claim.signature, note.signed)))
      throw new Error("the signature is not of this key");
  return claims.length > 0;
}

// Changes of keys: docs/reference/ledger-format.md

const PURPOSE = /^(?:ledger|attest|witness|person:[a-z0-9][a-z0-9._-]{0,63})$/;
const CHANGES = { // Which fields are signed, and which key's signature lies in which field.
  "key.rotated": { tag: "key-rotation", signed: ["purpose", "old", "new", "from_index"],
    keys: ["old", "new"], signatures: { by_old: "old", by_new: "new" } },
  "key.revoked": { tag: "key-revocation", signed: ["purpose", "key", "from_index"],
    keys: ["key", "by"], signatures: { signature: "by" } },
};

class KeyChanges {
  revoked = new Set();
  constructor(homeId, first) {
    this.homeId = homeId;
    this.current = new Map([["ledger", first]]);
    this.purposes = new Map([[first, "ledger"]]);
  }

  async follow(index, kind, subject, told) {
    const { tag, signed, keys, signatures } = CHANGES[kind], { purpose, from_index: start } = told;
    const fields = ["purpose", "from_index", "reason", ...keys, ...Object.keys(signatures)].sort().join();
    if (Object.keys(told).sort().join() !== fields || !keys.every((name) => isHash(told[name])) ||
        ![purpose, told.reason].every((each) => typeof each === "string") || !PURPOSE.test(purpose) ||
        !isInteger(start) || start < 0 || subject !== `key/${purpose}`)
      throw new Error("it is not shaped like one, or its subject is not its purpose");
    const change = kind === "key.rotated" ? this.rotated(index, told) : this.revocation(index, told);
    const message = Object.fromEntries(signed.map((name) => [name, told[name]]));
    const bytes = encode(`sterling/${tag}/1\0${canonical({ ...message, home_id: this.homeId })}`);
    for (const [field, by] of Object.entries(signatures))
      if (!(await isSignature(unhex(told[by]), unbase64(told[field], 64), bytes)))
        throw new Error(`${field} is no signature by ${by}`);
    change();
  }

  /** What a rotation changes once its signatures hold; throws where it may not stand. */
  rotated(index, { purpose, old, new: fresh, from_index: start }) {
    const isNext = (this.current.get(purpose) ?? old) === old && old !== fresh && !this.purposes.has(fresh);
    if (start !== index || !isNext) throw new Error("it does not lead from the key in force, here, to a new key");
    if ((this.purposes.get(old) ?? purpose) !== purpose || this.revoked.has(old))
      throw new Error("its old key cannot pass anything on");
    return () => {
      this.current.set(purpose, fresh);
      this.purposes.set(old, purpose).set(fresh, purpose);
    };
  }

  revocation(index, { purpose, key, by, from_index: start }) {
    if (start > index || (purpose === "ledger" && start !== index))
      throw new Error("it begins at another entry than it may");
    const isInForce = ["ledger", "attest"].includes(purpose) && this.current.get(purpose) === key;
    if ((this.purposes.get(key) ?? purpose) !== purpose || isInForce)
      throw new Error("its key is for something else, or in force");
    if (by !== this.current.get("ledger")) throw new Error("it is not by the ledger key in force");
    return () => {
      this.purposes.set(key, purpose);
      this.revoked.add(key);
    };
  }
}

// The tree, RFC 6962

function split(size) {
  let found = 1;
  while (found * 2 < size) found *= 2;
  return found;
}

function hashesOf(value) {
  if (!Array.isArray(value) || !value.every(isHash)) throw new Error("no list of hashes");
  return value.map(unhex);
}

async function provedRoot(index, size, leaf, nodes) {
  if (size === 1) {
    if (nodes.length) throw new Error("a node too many");
    return leaf;
  }
  if (!nodes.length || !(index < size)) throw new Error("a node too few, or an index outside the tree");
  const left = split(size), rest = nodes.slice(0, -1), last = nodes[nodes.length - 1];
  if (index < left) return nodeHash(await provedRoot(index, left, leaf, rest), last);
  return nodeHash(last, await provedRoot(index - left, size - left, leaf, rest));
}

async function provedRoots(older, newer, whole, nodes) {
  if (older === newer) {
    if (nodes.length !== (whole ? 0 : 1)) throw new Error("a node too many or too few");
    return whole ? [whole, whole] : [nodes[0], nodes[0]];
  }
  if (!nodes.length || !(older > 0 && older < newer)) throw new Error("a node too few, or sizes that do not follow");
  const left = split(newer), rest = nodes.slice(0, -1), last = nodes[nodes.length - 1];
  if (older <= left) {
    const [before, after] = await provedRoots(older, left, whole, rest);
    return [before, await nodeHash(after, last)];
  }
  const [before, after] = await provedRoots(older - left, newer - left, null, rest);
  return [await nodeHash(last, before), await nodeHash(last, after)];
}

class Tree {
  peaks = [];
  async add(digest) {
    let level = 0, node = await sha256(Uint8Array.of(0), digest);
    while (this.peaks.length && this.peaks[this.peaks.length - 1].level === level) {
      node = await nodeHash(this.peaks.pop().node, node);
      level += 1;
    }
    this.peaks.push({ level, node });
  }
  async root() {
    let node = this.peaks[this.peaks.length - 1].node;
    for (const peak of this.peaks.slice(0, -1).reverse()) node = await nodeHash(peak.node, node);
    return node;
  }
}

// What entries name

function* addressesIn(value) {
  if (Array.isArray(value)) for (const each of value) yield* addressesIn(each);
  else if (isObject(value))
    for (const key of Object.keys(value)) {
      const item = value[key];
      if (key === "blob" && isHash(item)) yield item;
      else if (key === "blobs" && Array.isArray(item)) yield* item.filter(isHash);
      yield* addressesIn(item);
    }
}

function recordsNamed(kind, payload) {
  const sources = kind === "record.put" && isObject(payload) && Array.isArray(payload.sources) ? payload.sources : [];
  return sources.filter((each) => isObject(each) && typeof each.record === "string").map((each) => each.record);
}

function isApart(kind, payload) {
  if (!isObject(payload) || !isHash(payload.blob)) return false;
  const isSpilled = Object.keys(payload).sort().join() === "blob,size_bytes";
  return isSpilled || (kind === "record.put" && !has(payload, "document"));
}

const contractName = (payload) => (has(payload, "contract") ? String(payload.contract) : "").split("@")[0];

// The check

class Check {
  members = new Map();
  manifest = null;
  size = 0;
  entries = 0;
  changes = null;
  signers = []; // After which entry which key signs checkpoints.
  last = { index: -1, hash: "0".repeat(64), at: null };
  tree = new Tree();
  roots = new Map();
  known = new Set();
  contracts = new Set();
  wanted = new Map();
  documents = new Map();

  constructor(data, pin) {
    this.data = data;
    this.pin = pin;
  }

  async run() {
    this.members = listMembers(this.data);
    await this.checkManifest();
    await this.checkKey();
    this.part("checkpoints.jsonl"); // Refuses one that is too large to be held.
    const notes = [...this.lines("checkpoints.jsonl")];
    if (!notes.length) throw malformed("checkpoints.jsonl", "it is empty");
    let newest = null;
    if (this.manifest.selection.by !== "all")
      try {
        newest = parseNote(notes[notes.length - 1].note);
      } catch (problem) {
        throw new Bad("checkpoints.jsonl", "integrity.root-mismatch", problem.message, 0);
      }
    const sizes = new Set(notes.map((line) => line.size));
    for (const line of this.lines("entries.jsonl")) {
      await this.checkEntry(line, newest, sizes);
      this.entries += 1;
    }
    for (const line of notes) await this.checkNote(line, newest);
    if (!newest && this.size !== this.entries)
      throw new Bad("entries.jsonl", "integrity.root-mismatch", "no checkpoint covers the entries after it",
        this.size, this.entries - 1);
    this.checkNamed();
  }

  part(name) {
    if (!this.members.has(name)) throw malformed(name, "it is missing");
    const [start, end] = this.members.get(name);
    if (end - start > TEXT_MAX) throw new Bad(name, "bundle.too-large", "it is too large");
    return this.data.subarray(start, end);
  }

  object(name, bytes) {
    let value;
    try {
      value = parseCanonical(bytes);
    } catch (problem) {
      throw malformed(name, problem.message);
    }
    if (!isObject(value)) throw malformed(name, "it is no object");
    return value;
  }

  *lines(name) {
    if (!this.members.has(name)) throw malformed(name, "it is missing");
    let [at, end] = this.members.get(name);
    while (at < end) {
      const stop = this.data.indexOf(10, at);
      if (stop < 0 || stop >= Math.min(end, at + LINE_MAX)) throw malformed(name, "a line that does not end");
      yield this.object(name, this.data.subarray(at, stop));
      at = stop + 1;
    }
  }

  async checkManifest() {
    const name = "manifest.json", content = this.object(name, this.part(name));
    const { format, members, origin, selection, withheld } = content;
    const isTexts = (value, ...names) => isObject(value) && Object.keys(value).sort().join() === names.join() &&
      names.every((each) => typeof value[each] === "string");
    if (Object.keys(content).sort().join() !== "format,members,origin,selection,withheld" ||
        format !== "sterling/bundle/1" || typeof origin !== "string" || !ORIGIN.test(origin) ||
        !Array.isArray(members) || !Array.isArray(withheld) ||
        !withheld.every((each) => isTexts(each, "id", "reason")) ||
        !isTexts(selection, "by", "value") || !["all", "run", "record", "range"].includes(selection.by))
      throw malformed(name, "it is no manifest of this format");
    await this.checkMembers(members);
    this.manifest = content;
    this.known = new Set(withheld.map((each) => each.id));
  }

  async checkMembers(listed) {
    const found = [];
    for (const [name, [start, end]] of this.members)
      if (name !== "manifest.json")
        found.push({ name, sha256: hex(await sha256(this.data.subarray(start, end))), size_bytes: end - start });
    if (canonical(found) !== canonical(listed)) {
      const texts = (rows) => new Map(
        rows.filter((row) => isObject(row) && typeof row.name === "string").map((row) => [row.name, canonical(row)]));
      const ours = texts(found), theirs = texts(listed);
      const names = [...new Set([...ours.keys(), ...theirs.keys()])].sort();
      const wrong = names.find((each) => ours.get(each) !== theirs.get(each));
      throw malformed(wrong ?? "manifest.json", "it is not what the manifest lists");
    }
    for (const { name, sha256: digest } of found) {
      const [folder, address] = name.split("/");
      if ((folder === "blobs" || folder === "copies") && address !== digest)
        throw malformed(name, "its bytes do not hash to its name");
    }
  }

  async checkKey() {
    const content = this.object("keys.json", this.part("keys.json"));
    let own;
    try {
      own = await parseVerifier(String(content.ledger));
    } catch (problem) {
      throw malformed("keys.json", problem.message);
    }
    if (Object.keys(content).join() !== "ledger" || own.name !== this.manifest.origin)
      throw malformed("keys.json", "it does not hold the first key of its origin");
    if (this.pin && (this.pin.name !== own.name || !same(this.pin.key, own.key)))
      throw new Bad("keys.json", "integrity.key-unknown", "its first key is not the pinned one", 0);
    this.changes = new KeyChanges(own.name.slice("sterling/".length), hex(own.key));
    this.signers = [{ since: 0, key: own.key }];
  }

  async checkEntry(line, newest, sizes) {
    const content = has(line, "body") ? "body" : "withheld";
    const fields = ["hash", "index", "previous", content, ...(newest ? ["proof"] : [])].sort().join();
    const { hash, index, previous } = line, text = line[content];
    if (Object.keys(line).sort().join() !== fields || ![hash, previous, text].every((each) => typeof each === "string"))
      throw malformed("entries.jsonl", `line ${this.entries} has other fields`);
    if (!newest && index !== this.entries)
      throw badEntry(this.entries, "chain-broken", `expected index ${this.entries}, found another`);
    const last = this.last.index;
    if (!isInteger(index) || index <= last || (last < 0 && index !== 0))
      throw malformed("entries.jsonl", `line ${this.entries} is out of order, or entry 0 is missing`);
    const before = index === last + 1 ? this.last.hash : previous;
    if (!isHash(before) || !isHash(hash)) throw badEntry(index, "entry-altered", "a hash is not 64 hex digits");
    const body = content === "body" ? encode(text) : null;
    const fits = body !== null &&
      hex(await sha256(encode("sterling/entry/1\0"), u64(index), unhex(before), body)) === hash;
    if (previous !== before && !fits)
      throw badEntry(index, "chain-broken", "its previous hash is not the hash of the entry before it");
    if (previous !== before || (body !== null && !fits))
      throw badEntry(index, "entry-altered", "its bytes do not give its hash");
    if (body === null && !this.known.has(`entry:${index}`))
      throw malformed("entries.jsonl", `entry ${index} is withheld, and the manifest does not say so`);
    this.last = { index, hash, at: body === null ? null : await this.checkBody(index, body) };
    await this.checkPlace(index, unhex(hash), line, newest, sizes);
  }

  async checkPlace(index, digest, line, newest, sizes) {
    if (!newest) {
      await this.tree.add(digest);
      if (sizes.has(index + 1)) this.roots.set(index + 1, await this.tree.root());
      return;
    }
    let root = null;
    try {
      const leaf = await sha256(Uint8Array.of(0), digest);
      if (index < newest.size) root = await provedRoot(index, newest.size, leaf, hashesOf(line.proof));
    } catch {
      root = null;
    }
    if (!root || !same(root, newest.root))
      throw badEntry(index, "proof-invalid", `its proof does not lead to the checkpoint of size ${newest.size}`);
  }

  async checkBody(index, bytes) {
    let body;
    try {
      body = parseEntry(bytes);
    } catch (problem) {
      throw badEntry(index, "entry-altered", problem.message);
    }
    const { kind, payload, at_us: at } = body;
    const before = this.last.index === index - 1 ? this.last.at : null;
    const stepped = () => kind === "clock.stepped" && canonical(payload) === `{"after_us":${at},"before_us":${before}}`;
    if (before !== null && at < before && !stepped())
      throw badEntry(index, "time-unexplained", "time falls and no clock.stepped says so");
    const told = isObject(payload) ? payload : {};
    if (index === 0) {
      if (kind !== "home.created" || `sterling/${told.home_id}` !== this.manifest.origin)
        throw badEntry(0, "forked", "the first entry does not create the home that the bundle is of");
      if (told.key !== hex(await sha256(this.signers[0].key)))
        throw badEntry(0, "key-unknown", "the home began with another key");
    } else if (has(CHANGES, kind)) {
      try {
        await this.changes.follow(index, kind, body.subject, told);
      } catch (problem) {
        throw badEntry(index, "key-unknown", `a change of keys: ${problem.message}`);
      }
      this.signers.push({ since: index, key: unhex(this.changes.current.get("ledger")) });
    }
    this.noteNames(index, kind, payload, told);
    return at;
  }

  noteNames(index, kind, payload, told) {
    this.contracts.add(kind);
    if ((kind === "record.put" || kind === "record.again") && isObject(payload)) {
      this.known.add(String(told.id));
      this.contracts.add(contractName(told));
    }
    for (const each of [...addressesIn(payload), ...recordsNamed(kind, payload)])
      if (!this.wanted.has(each)) this.wanted.set(each, index);
    if (isApart(kind, payload) && !this.documents.has(payload.blob)) this.documents.set(payload.blob, index);
  }

  async checkNote(line, newest) {
    const { size, note: text } = line, good = this.size;
    const fields = newest ? "consistency,note,size" : "note,size";
    const bad = (code, message, high = size - 1) =>
      new Bad("checkpoints.jsonl", "integrity." + code, message, good, high);
    if (Object.keys(line).sort().join() !== fields || typeof text !== "string")
      throw malformed("checkpoints.jsonl", "a line has other fields");
    if (!isInteger(size) || size <= good) throw bad("checkpoint-order", "sizes do not rise", null);
    const { key } = this.signers.filter((each) => each.since === 0 || size > each.since).pop();
    let note, known;
    try {
      note = parseNote(text);
      known = await signedBy(note, this.manifest.origin, key);
    } catch (problem) {
      throw bad("root-mismatch", problem.message);
    }
    if (!known) throw bad("key-unknown", "it is signed by another key");
    if (note.size !== size) throw bad("checkpoint-order", `it speaks of size ${note.size}`);
    if (note.origin !== this.manifest.origin) throw bad("forked", "it is of another log");
    if (!newest && size > this.entries)
      throw new Bad("entries.jsonl", "integrity.tail-missing", "the tail is missing", this.entries, size - 1);
    if (!(await this.leads(note, line, newest))) throw bad("root-mismatch", "it was signed over other entries");
    this.size = size;
  }

  async leads(note, line, newest) {
    if (!newest) return same(this.roots.get(note.size), note.root);
    try {
      const [before, after] =
        await provedRoots(note.size, newest.size, note.root, hashesOf(line.consistency));
      return same(before, note.root) && same(after, newest.root);
    } catch {
      return false;
    }
  }

  checkNamed() {
    for (const [address, index] of this.documents) {
      const [start, end] = this.members.get(`blobs/${address}`) ?? [0, 0];
      if (start < end && end - start <= TEXT_MAX) {
        let inner = [];
        try {
          inner = [...addressesIn(parseCanonical(this.data.subarray(start, end)))];
        } catch {
          inner = []; // No document of ours: it names nothing.
        }
        for (const each of inner) this.wanted.set(each, Math.min(index, this.wanted.get(each) ?? index));
      }
    }
    const order = (one, other) => one[1] - other[1] || (one[0] < other[0] ? -1 : 1);
    for (const [id, index] of [...this.wanted].sort(order))
      if (!this.members.has(`blobs/${id}`) && !this.known.has(id)) {
        const message = `entry ${index} names ${id}, which is not here`;
        if (isHash(id)) throw new Bad(`blobs/${id}`, "integrity.blob-missing", message, index, index);
        throw new Bad("entries.jsonl", "bundle.malformed", message, index, index);
      }
    for (const name of this.members.keys()) {
      const [folder, rest] = name.split("/");
      const isStray = folder === "blobs" && !this.wanted.has(rest);
      if (isStray || (folder === "contracts" && !this.contracts.has(rest.split("@")[0])))
        throw malformed(name, "no entry here names it");
    }
  }
}

/** The verdict on the bytes of a bundle; `pin` is a verifier string, or nothing. Throws for a bad pin. */
export async function verifyBundle(bytes, pin) {
  const trusted = pin ? await parseVerifier(pin) : null;
  const check = new Check(bytes, trusted);
  let bad = null, doubt = "";
  try {
    await check.run();
    if (!trusted) doubt = "it agrees with itself, and nobody vouches for the key that signed it";
    if (!(await hasEd25519())) doubt = "hashes hold, signature not checked: this runtime has no Ed25519";
  } catch (problem) {
    if (!(problem instanceof Bad)) throw problem;
    bad = problem.place;
  }
  return {
    verdict: bad ? "broken" : doubt ? "cannot-judge" : "ok",
    exit: bad ? 3 : doubt ? 4 : 0,
    code: bad ? bad.code : doubt ? "integrity.no-anchor" : "",
    message: bad ? bad.message : doubt,
    origin: check.manifest?.origin ?? "",
    selection: check.manifest?.selection ?? {},
    size: check.size,
    entries: check.entries,
    blobs: [...check.members.keys()].filter((name) => name.startsWith("blobs/")).length,
    withheld: check.manifest?.withheld ?? [],
    first_bad: bad,
  };
}

async function main(given) {
  const { readFile } = await import("node:fs/promises");
  const { existsSync } = await import("node:fs");
  const words = given.filter((word) => word !== "--json");
  const at = words.indexOf("--pin"), [, pin] = at < 0 ? [] : words.splice(at, 2);
  if (words.length !== 1 || (at >= 0 && !pin)) {
    console.error("usage: node verify.mjs FILE.tar [--pin KEY] [--json]");
    return 2;
  }
  let found;
  try {
    const key = pin && existsSync(pin) ? await readFile(pin, "utf-8") : pin;
    found = await verifyBundle(new Uint8Array(await readFile(words[0])), key);
  } catch (problem) {
    console.error(`nothing to check: ${problem.message}`);
    return 2;
  }
  const place = found.first_bad ? ` ${JSON.stringify(found.first_bad)}` : "";
  const count = `${found.entries} entries of ${JSON.stringify(found.origin)} under ${found.size}`;
  const text = `${found.verdict} ${count} ${found.code} ${JSON.stringify(found.message)}${place}`;
  console.log(given.includes("--json") ? JSON.stringify(found) : text);
  return found.exit;
}

if (typeof process !== "undefined" && process.versions?.node && process.argv[1]) {
  const { pathToFileURL } = await import("node:url");
  const { realpathSync } = await import("node:fs");
  if (import.meta.url === pathToFileURL(realpathSync(process.argv[1])).href)
    process.exitCode = await main(process.argv.slice(2));
}
