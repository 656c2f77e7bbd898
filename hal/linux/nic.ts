/**
 * A port towards other appliances, on TCP, with a virtual link per remote appliance behind it (the kernel's own traffic control
 * may be missing, and on one machine everything is loopback).
 *
 * Invariants:
 * - A stream is handed up only when both sides know each other's names and neither direction is cut.
 * - A shaping is in force, for every open and coming stream, and stored, when `shape` returns.
 * - A link without shaping passes writes and data straight through.
 */
import type { ByteStream, StreamHandler } from "../api/byte_stream.ts";
import type { Clock } from "../api/clock.ts";
import type { Nic, Shaping } from "../api/nic.ts";
import { AcceptHandshake, DialHandshake, type HandshakeHost } from "./nic_handshake.ts";
import { encodePreamble, preambleStep } from "./nic_preamble.ts";
import { NicStream } from "./nic_stream.ts";
import { toShaping } from "./shaping_file.ts";
import { dialTcp, TcpListener } from "./tcp_port.ts";
import type { TcpStream } from "./tcp_stream.ts";

/** Strangers that connect and stay silent take no more than this many places; the next one takes the place of the oldest. */
const acceptingCountMax = 256;
/** The same refusal of the same address is told again after this long, and so many of them are remembered. */
const tellAgainMs = 600_000;
const toldCountMax = 256;

type Accept = (stream: ByteStream) => StreamHandler;

export class LinuxNic implements Nic {
  readonly name: string;
  readonly #clock: Clock;
  readonly #listener: TcpListener;
  readonly #random: () => number;
  readonly #onShaped: () => void;
  readonly #onRefused: (text: string) => void;
  /** When each refusal was told last. */
  readonly #toldMs = new Map<string, number>();
  readonly #shapings = new Map<string, Shaping>();
  readonly #streams = new Set<NicStream>();
  readonly #dialing = new Set<DialHandshake>();
  readonly #accepting = new Set<AcceptHandshake>();
  readonly #host: HandshakeHost;

  constructor(options: {
    appliance: string;
    name: string;
    listen: string;
    clock: Clock;
    random?: () => number;
    /** The shapings that were in force before. */
    shapings?: ReadonlyMap<string, Shaping>;
    /** Called within `shape`, to store the change. */
    onShaped?: () => void;
    /** A connection was closed because it is none between appliances; told once in a while per cause and address. */
    onRefused?: (text: string) => void;
  }) {
    this.name = options.name;
    this.#clock = options.clock;
    this.#listener = new TcpListener(options.listen, options.clock);
    this.#random = options.random ?? Math.random;
    this.#onShaped = options.onShaped ?? (() => {});
    this.#onRefused = options.onRefused ?? (() => {});
    for (const [remote, shaping] of options.shapings ?? []) this.#shapings.set(remote, shaping);
    this.#host = {
      appliance: options.appliance,
      nic: options.name,
      clock: options.clock,
      shapingOf: (remote) => this.#shapings.get(remote) ?? null,
    };
    // Names that do not fit are found now and not at the first link.
    encodePreamble(preambleStep.hello, options.appliance, options.name);
  }

  get address(): string {
    return this.#listener.address;
  }

  listen(accept: Accept, done: (error: string | null) => void): void {
    this.#listener.listen((raw) => this.#welcome(raw, accept), done);
  }

  #welcome(raw: TcpStream, accept: Accept): void {
    const [oldest] = this.#accepting;
    if (this.#accepting.size >= acceptingCountMax)
      oldest?.refuse(`it has not named itself, and ${acceptingCountMax} others wait as well`);
    const { remote: address } = raw;
    const handshake = new AcceptHandshake(
      raw,
      this.#host,
      (_raw, remote, rest) => {
        this.#accepting.delete(handshake);
        const stream = this.#newStream(raw, remote);
        stream.handler = accept(stream);
        if (rest !== null) stream.onData(rest);
      },
      (reason) => {
        this.#accepting.delete(handshake);
        if (handshake.isStranger) this.#refused(address, reason);
      },
    );
    this.#accepting.add(handshake);
  }

  #refused(address: string, reason: string): void {
    const text = `a connection from ${address} was closed: ${reason}`;
    const nowMs = this.#clock.nowMs();
    const toldMs = this.#toldMs.get(text);
    if (toldMs !== undefined && nowMs - toldMs < tellAgainMs) return;
    if (this.#toldMs.size >= toldCountMax) this.#toldMs.clear();
    this.#toldMs.set(text, nowMs);
    this.#onRefused(`${this.name}: ${text}`);
  }

  connect(address: string, connected: Accept, failed: (reason: string) => void): void {
    dialTcp(
      this.#clock,
      address,
      (raw) => {
        const handshake = new DialHandshake(
          raw,
          this.#host,
          (_raw, remote) => {
            this.#dialing.delete(handshake);
            const stream = this.#newStream(raw, remote);
            stream.write(encodePreamble(preambleStep.confirm, this.#host.appliance, this.name));
            stream.handler = connected(stream);
          },
          (reason) => {
            this.#dialing.delete(handshake);
            failed(`cannot connect to ${address}: ${reason}`);
          },
        );
        this.#dialing.add(handshake);
      },
      failed,
    );
  }

  #newStream(raw: TcpStream, remote: string): NicStream {
    const stream = new NicStream({
      raw,
      remote,
      shaping: this.#shapings.get(remote) ?? null,
      clock: this.#clock,
      random: this.#random,
      onGone: (gone) => this.#streams.delete(gone),
    });
    this.#streams.add(stream);
    return stream;
  }

  shape(remote: string, shaping: Shaping | null): void {
    const checked = shaping === null ? null : toShaping(shaping);
    if (typeof checked === "string") throw new Error(`${this.name}: shaping towards ${remote}: ${checked}`);
    if (checked === null) this.#shapings.delete(remote);
    else this.#shapings.set(remote, checked);
    for (const stream of this.#streams) if (stream.remote === remote) stream.reshape(checked);
    // A handshake that a cut has held goes on after this event.
    if (checked === null || !checked.cut) this.#clock.defer(() => this.#reconsider());
    this.#onShaped();
  }

  #reconsider(): void {
    for (const handshake of [...this.#dialing]) handshake.reconsider();
    for (const handshake of [...this.#accepting]) handshake.reconsider();
  }

  shapings(): ReadonlyMap<string, Shaping> {
    return this.#shapings;
  }

  /** Stops accepting; open streams stay. */
  close(): void {
    this.#listener.close();
  }
}
