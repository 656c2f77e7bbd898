/**
 * A conversation with a virtual machine's monitor, in QEMU's machine protocol (QMP; docs/interop/qmp-spec.txt of QEMU 7.2): JSON objects, one
 * a line, over TCP or a unix socket.
 *
 *   connecting ──▶ greeting awaited ──▶ qmp_capabilities ──▶ commands, one at a time, events between their answers ──▶ closed
 *
 * A monitor serves one client at a time: the next one's connection is taken and not greeted before. So a conversation is short, and has a
 * limit as a whole.
 *
 * Invariants:
 * - An answer counts for the command that it names (`id`) only. What is not the protocol ends the conversation.
 * - When `converse` is done the connection is closed.
 */
import type { Clock } from "../api/clock.ts";
import { causeOf, parseAddress } from "./address.ts";
import { socketCallbacks, type TcpStream } from "./tcp_stream.ts";

/** Answers used here have some hundred bytes; a greeting has 300. */
const lineBytesMax = 64 * 1024;
const newline = 0x0a;

/** The end of a sentence for the operator. */
export class MonitorError extends Error {}

export interface Monitor {
  /** What the command returned. Rejects with a `MonitorError`. */
  execute(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown>;
}

export interface Conversation {
  /** `HOST:PORT`, or the path of a unix socket. */
  readonly address: string;
  readonly clock: Clock;
  /** For all of it. */
  readonly limitMs: number;
}

/** Rejects with a `MonitorError`: nobody there, no monitor, not in time, or what `talk` rejects with. */
export async function converse<T>(wanted: Conversation, talk: (monitor: Monitor) => Promise<T>): Promise<T> {
  const client = new QmpClient(wanted);
  try {
    await client.greeted;
    await client.execute("qmp_capabilities");
    return await talk(client);
  } finally {
    client.close();
  }
}

interface Awaited {
  /** null: the greeting. */
  readonly id: number | null;
  readonly what: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: MonitorError) => void;
}

class QmpClient implements Monitor {
  readonly greeted: Promise<unknown>;
  readonly #address: string;
  readonly #limit: { cancel(): void };
  #stream: TcpStream | null = null;
  #awaited: Awaited | null = null;
  #failure: MonitorError | null = null;
  #nextId = 1;
  /** The beginning of a line. */
  #part: Uint8Array = new Uint8Array(0);

  constructor({ address, clock, limitMs }: Conversation) {
    this.#address = address;
    this.greeted = this.#expect(null, "its greeting");
    // Whoever waits for it may not have begun to.
    this.greeted.catch(() => {});
    this.#limit = clock.after(limitMs, () => {
      const awaited = this.#awaited;
      this.#fail(awaited === null ? `not done in ${limitMs} ms` : `${awaited.what} did not come in ${limitMs} ms`);
    });
    this.#dial(clock);
  }

  execute(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown> {
    const id = this.#nextId++;
    const answer = this.#expect(id, `the answer to ${command}`);
    const line = new TextEncoder().encode(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    // A line is far smaller than a socket's buffer, and only one is under way.
    if (this.#failure === null && this.#stream?.write(line) !== line.byteLength)
      this.#fail(`${command} could not be sent`);
    return answer;
  }

  close(): void {
    this.#limit.cancel();
    this.#failure ??= new MonitorError("the conversation is over");
    this.#stream?.abort();
    this.#stream = null;
  }

  #expect(id: number | null, what: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== null) return reject(this.#failure);
      this.#awaited = { id, what, resolve, reject };
    });
  }

  #fail(why: string): void {
    if (this.#failure !== null) return;
    const error = new MonitorError(`the monitor ${this.#address}: ${why}`);
    const awaited = this.#awaited;
    this.#awaited = null;
    this.close();
    this.#failure = error;
    awaited?.reject(error);
  }

  #dial(clock: Clock): void {
    const socket = socketCallbacks(clock, (stream) => {
      // It may have taken too long.
      if (this.#failure !== null) return stream.abort();
      this.#stream = stream;
      stream.handler = {
        onData: (chunk) => this.#take(chunk),
        onDrain: () => {},
        onEnd: () => this.#fail("it has closed the connection"),
        onClose: () => this.#fail("the connection has broken"),
      };
    });
    const connecting = connect(this.#address, socket);
    if (connecting === null) return clock.defer(() => this.#fail("not HOST:PORT and not the path of a unix socket"));
    connecting.catch((error: unknown) => this.#fail(causeOf(error)));
  }

  #take(chunk: Uint8Array): void {
    let rest = chunk;
    for (let end = rest.indexOf(newline); end >= 0 && this.#failure === null; end = rest.indexOf(newline)) {
      const line = joined(this.#part, rest.subarray(0, end));
      this.#part = new Uint8Array(0);
      rest = rest.subarray(end + 1);
      this.#line(line);
    }
    if (this.#failure !== null) return;
    this.#part = joined(this.#part, rest);
    if (this.#part.byteLength > lineBytesMax)
      this.#fail(`it sends a line of more than ${lineBytesMax} bytes: it is no QMP`);
  }

  #line(bytes: Uint8Array): void {
    const message = bytes.byteLength > lineBytesMax ? null : parseObject(bytes);
    if (message === null) return this.#fail("what it says is no QMP");
    const awaited = this.#awaited;
    if (typeof message["event"] === "string") return;
    if (awaited === null) return this.#fail("it says something that was not asked");
    if (awaited.id === null) {
      if (!isObject(message["QMP"])) return this.#fail("it does not greet as QMP");
      return this.#answered(() => awaited.resolve(null));
    }
    if (message["id"] !== awaited.id) return this.#fail("it answers something that was not asked");
    if (Object.hasOwn(message, "return")) return this.#answered(() => awaited.resolve(message["return"]));
    const error = message["error"];
    if (!isObject(error)) return this.#fail("what it says is no QMP");
    const said = new MonitorError(
      `the monitor ${this.#address} refuses ${awaited.what.split(" ").at(-1)}: ${shown(error["desc"])}`,
    );
    this.#answered(() => awaited.reject(said));
  }

  #answered(settle: () => void): void {
    this.#awaited = null;
    settle();
  }
}

/** null: not an address. */
function connect(address: string, socket: Bun.SocketHandler<TcpStream | null>): Promise<unknown> | null {
  if (address.startsWith("/")) return Bun.connect<TcpStream | null>({ unix: address, data: null, socket });
  const target = parseAddress(address);
  if (target === null) return null;
  return Bun.connect<TcpStream | null>({ hostname: target.host, port: target.port, data: null, socket });
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (first.byteLength === 0) return second;
  const both = new Uint8Array(first.byteLength + second.byteLength);
  both.set(first);
  both.set(second, first.byteLength);
  return both;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseObject(bytes: Uint8Array): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

const shownCharsMax = 200;

/** A text from elsewhere, fit for one line of a log. */
export function shown(value: unknown): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "nothing");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not get into a log.
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]+/g, " ").slice(0, shownCharsMax);
}
