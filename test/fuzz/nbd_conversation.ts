/**
 * A reference reading of an NBD session, from what both sides have said: an independent parser of the specification, not the
 * firmware's. It tells what was reached, and what the server said that it may not say.
 *
 * What a server must: answer each option once, each command at most once, in the form that was negotiated, with the command's own
 * cookie, offset and length; and say nothing else.
 */

export interface Said {
  readonly sent: Uint8Array;
  readonly received: Uint8Array;
  /** The server has ended the stream. */
  readonly ended: boolean;
  /** Everything that will ever come has come, and the host has read it. */
  readonly settled: boolean;
  /** The largest payload that the server takes. */
  readonly payloadBytesMax: number;
}

type Form = "simple" | "structured" | "extended";

interface Command {
  readonly kind: number;
  readonly cookie: bigint;
  readonly offset: bigint;
  /** What a READ or a BLOCK_STATUS is about. */
  readonly length: bigint;
  /** All of its payload was sent. */
  readonly whole: boolean;
}

/** The commands of one cookie, which a host should use once at a time and may use twice: their replies cannot be told apart. */
interface Asked {
  readonly commands: Command[];
  answers: number;
}

const knownOptions = 12;
const knownCommands = 8;

/** A mistake of the server. */
class Mistake extends Error {}

/** Not enough bytes to go on. */
class Starved extends Error {}

class Reader {
  readonly view: DataView;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get left(): number {
    return this.view.byteLength - this.at;
  }

  need(bytes: number): number {
    if (this.left < bytes) throw new Starved();
    this.at += bytes;
    return this.at - bytes;
  }

  u16(): number {
    return this.view.getUint16(this.need(2));
  }

  u32(): number {
    return this.view.getUint32(this.need(4));
  }

  u64(): bigint {
    return this.view.getBigUint64(this.need(8));
  }

  pass(bytes: number | bigint): void {
    if (BigInt(this.left) < BigInt(bytes)) throw new Starved();
    this.at += Number(bytes);
  }
}

export class Conversation {
  readonly reached: string[] = [];
  finding: string | null = null;
  readonly #said: Said;
  readonly #host: Reader;
  readonly #server: Reader;
  #form: Form = "simple";
  #word = "start";

  constructor(said: Said) {
    this.#said = said;
    this.#host = new Reader(said.sent);
    this.#server = new Reader(said.received);
    try {
      this.#handshake();
    } catch (error) {
      if (error instanceof Mistake) this.finding = error.message;
      else if (!(error instanceof Starved)) throw error;
    }
  }

  /** Where the conversation stood at its end. */
  get lastWord(): string {
    return this.#word;
  }

  /** A word of what was reached, and the step that led there. */
  #reach(word: string): void {
    this.reached.push(word, `${this.#word}>${word}`);
    this.#word = word;
  }

  #handshake(): void {
    const server = this.#server;
    demand(server.u64() === 0x4e42444d41474943n, "the greeting begins with NBDMAGIC");
    demand(server.u64() === 0x49484156454f5054n && server.u16() === 3, "the greeting offers fixed newstyle");
    const flags = this.#host.u32();
    if (flags > 3) {
      this.#reach("bad-flags");
      return this.#mustBeOver("unknown client flags");
    }
    while (this.#option(flags)) {}
  }

  /** False: the haggling is over. */
  #option(flags: number): boolean {
    const host = this.#host;
    if (host.u64() !== 0x49484156454f5054n) {
      this.#reach("bad-option-magic");
      this.#mustBeOver("a wrong option magic");
      return false;
    }
    const option = host.u32();
    const length = host.u32();
    const name = option < knownOptions ? String(option) : "?";
    host.pass(length);
    if (option === 1) {
      if (this.#server.left === 0) this.#reach("export-name-refused");
      else this.#begin(() => this.#server.pass((flags & 2) !== 0 ? 10 : 134));
      return false;
    }
    const types: number[] = [];
    for (;;) {
      if (this.#server.left === 0 && this.#said.ended) {
        this.#reach(`option ${name} ends the session`);
        return false;
      }
      const type = this.#optionReply(option);
      types.push(type);
      if (type === 1 || type >= 0x80000000) break;
    }
    const last = types.at(-1)!;
    this.#reach(`option ${name} ${this.#form} ${types.map((type) => type.toString(16)).join(",")}`);
    if (option === 2) {
      demand(last === 1, "ABORT is acknowledged");
      this.#mustBeOver("ABORT");
      return false;
    }
    if (last !== 1) return true;
    if (option === 5) this.#form = "simple";
    if (option === 8) this.#form = "structured";
    if (option === 11) this.#form = "extended";
    if (option !== 7) return true;
    this.#begin(() => {});
    return false;
  }

  #optionReply(option: number): number {
    const server = this.#server;
    demand(server.u64() === 0x3e889045565a9n, "an option's reply has its magic");
    demand(server.u32() === option, "an option's reply names the option");
    const type = server.u32();
    server.pass(server.u32());
    return type;
  }

  #mustBeOver(why: string): void {
    demand(!this.#said.settled || this.#said.ended, `the session ends after ${why}`);
    demand(!this.#said.settled || this.#server.left === 0, `nothing is said after ${why}`);
  }

  #begin(skipAnswer: () => void): void {
    skipAnswer();
    this.#reach(`transmission ${this.#form}`);
    const commands = this.#commands();
    const open = new Map<bigint, Asked>();
    for (const command of commands) {
      const asked = open.get(command.cookie) ?? { commands: [], answers: 0 };
      asked.commands.push(command);
      open.set(command.cookie, asked);
    }
    try {
      while (this.#server.left > 0) if (!this.#reply(open)) return;
    } catch (error) {
      // A reply that is cut off is no mistake while more may come, or where the session has broken off.
      if (error instanceof Starved && (this.#said.ended || !this.#said.settled)) return;
      throw error instanceof Starved ? new Mistake("the last reply is cut off") : error;
    }
    if (!this.#said.settled || this.#said.ended) return;
    for (const [cookie, asked] of open) {
      const whole = asked.commands.filter((command) => command.whole).length;
      demand(
        asked.answers === whole,
        `${whole} commands of cookie ${cookie} have as many answers, not ${asked.answers}`,
      );
    }
  }

  /** What the host has asked for, up to where its bytes cannot be understood any more. */
  #commands(): Command[] {
    const host = this.#host;
    const extended = this.#form === "extended";
    const commands: Command[] = [];
    while (host.left >= (extended ? 32 : 28)) {
      if (host.u32() !== (extended ? 0x21e41c71 : 0x25609513)) {
        this.reached.push("bad-request-magic");
        break;
      }
      const flags = host.u16();
      const kind = host.u16();
      const cookie = host.u64();
      const offset = host.u64();
      const length = extended ? host.u64() : BigInt(host.u32());
      if (extended && kind === 1 && length > 0n && (flags & 32) === 0) break;
      const carries = extended ? (flags & 32) !== 0 : kind === 1;
      const payloadBytes = carries ? length : 0n;
      if (payloadBytes > BigInt(this.#said.payloadBytesMax)) {
        this.reached.push("payload-too-long");
        break;
      }
      const whole = BigInt(host.left) >= payloadBytes;
      const filtered = kind === 7 && payloadBytes === 12n && whole;
      const asked = filtered ? host.view.getBigUint64(host.at) : length;
      if (kind === 2) break;
      commands.push({ kind, cookie, offset, length: asked, whole });
      if (!whole) break;
      host.pass(payloadBytes);
    }
    return commands;
  }

  /** False: what follows cannot be told apart. */
  #reply(open: Map<bigint, Asked>): boolean {
    const server = this.#server;
    const magic = server.u32();
    if (magic === 0x67446698) return this.#simpleReply(open);
    demand(magic === (this.#form === "extended" ? 0x6e8a278c : 0x668e33ef), `a reply has a magic of its form`);
    demand(this.#form !== "simple", "chunks come only when they were negotiated");
    demand(server.u16() === 1, "every chunk is the last of its reply");
    const type = server.u16();
    const cookie = server.u64();
    const offset = this.#form === "extended" ? server.u64() : null;
    const payloadBytes = this.#form === "extended" ? server.u64() : BigInt(server.u32());
    const start = server.at;
    server.pass(payloadBytes);
    const matches = (command: Command) =>
      (offset === null || command.offset === offset) && fits(command, type, { server, start, payloadBytes });
    const command = answered(open, cookie, matches);
    const error = type >= 32768 ? server.view.getUint32(start) : 0;
    this.#reach(`reply ${nameOf(command.kind)} ${this.#form} ${type} ${error}`);
    return true;
  }

  #simpleReply(open: Map<bigint, Asked>): boolean {
    const server = this.#server;
    demand(this.#form !== "extended", "extended headers have no simple replies");
    const error = server.u32();
    const cookie = server.u64();
    const simple = this.#form === "simple";
    const command = answered(open, cookie, ({ kind }) => simple || (kind !== 0 && kind !== 7));
    const { commands } = open.get(cookie)!;
    if (simple && commands.length > 1 && commands.some(({ kind }) => kind === 0)) {
      this.reached.push("reads of one cookie");
      return false;
    }
    this.#reach(`reply ${nameOf(command.kind)} ${this.#form} simple ${error}`);
    if (command.kind === 0 && error === 0) server.pass(command.length);
    return true;
  }
}

interface Chunk {
  readonly server: Reader;
  readonly start: number;
  readonly payloadBytes: bigint;
}

/** All unknown commands are one. */
function nameOf(kind: number): string {
  return kind < knownCommands ? String(kind) : "?";
}

/** A command that this reply can be the answer to. */
function answered(open: Map<bigint, Asked>, cookie: bigint, matches: (command: Command) => boolean): Command {
  const asked = open.get(cookie);
  const command = asked?.commands.find(matches);
  if (asked === undefined || command === undefined)
    throw new Mistake(`not so: a reply for ${cookie} answers a command`);
  asked.answers++;
  demand(asked.answers <= asked.commands.length, `the commands of cookie ${cookie} are answered once each`);
  return command;
}

/** Whether this chunk can be the answer to that command. */
function fits(command: Command, type: number, { server, start, payloadBytes }: Chunk): boolean {
  const { view } = server;
  if (type >= 32768) {
    return payloadBytes >= 6n && view.getUint32(start) !== 0 && BigInt(view.getUint16(start + 4)) === payloadBytes - 6n;
  }
  if (type === 0) return payloadBytes === 0n && command.kind !== 0 && command.kind !== 7;
  if (type === 1) {
    return command.kind === 0 && payloadBytes === command.length + 8n && view.getBigUint64(start) === command.offset;
  }
  if (command.kind !== 7 || (type !== 5 && type !== 6)) return false;
  const [headBytes, descriptorBytes] = type === 6 ? [8, 16] : [4, 8];
  const count = (Number(payloadBytes) - headBytes) / descriptorBytes;
  if (!Number.isInteger(count) || count < 1 || view.getUint32(start) !== 1) return false;
  let sum = 0n;
  for (let index = 0; index < count; index++) {
    const at = start + headBytes + index * descriptorBytes;
    const length = type === 6 ? view.getBigUint64(at) : BigInt(view.getUint32(at));
    if (length === 0n || length % 512n !== 0n) return false;
    sum += length;
  }
  return sum <= command.length;
}

function demand(condition: boolean, text: string): void {
  if (!condition) throw new Mistake(`not so: ${text}`);
}
