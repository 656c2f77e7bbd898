/** A server with one volume and ready-made sessions on it, for the tests of the NBD front end. */
import type { NbdLimits } from "../../../firmware/frontend/nbd/limits.ts";
import type { TlsUse } from "../../../firmware/frontend/nbd/negotiation.ts";
import { NbdServer } from "../../../firmware/frontend/nbd/server.ts";
import { ManualClock } from "./manual_clock.ts";
import { MemoryExports, MemoryVolume } from "./memory_target.ts";
import { bytesOf, goData, HostStream, metaData, option, takeOptionReplies } from "./nbd_host.ts";

export const volumeBytes = 1048576;

export class NbdBench {
  readonly clock = new ManualClock();
  readonly exports = new MemoryExports();
  readonly volume: MemoryVolume;
  readonly server: NbdServer;
  readonly events: { code: string; text: string }[] = [];

  constructor(limits: Partial<NbdLimits> = {}, sizeBytes = volumeBytes, tls: TlsUse = "off") {
    this.volume = this.exports.add(new MemoryVolume("demo-1", sizeBytes, null, "first"));
    this.server = new NbdServer({
      clock: this.clock,
      exports: this.exports,
      events: { emit: (code, text) => this.events.push({ code, text }) },
      limits,
      tls,
    });
  }

  connect(remote?: string): HostStream {
    const stream = new HostStream(this.clock, remote);
    stream.handler = this.server.accept(stream);
    this.clock.runDeferred();
    return stream;
  }

  /** Past greeting and client flags (fixed newstyle, no zeroes). */
  haggling(flags = 3): HostStream {
    const stream = this.connect();
    stream.take(18);
    stream.send(bytesOf({ u32: flags }));
    return stream;
  }

  /** In the transmission phase. */
  open(choice: { structured?: boolean; extended?: boolean; blockStatus?: boolean; name?: string } = {}): HostStream {
    const name = choice.name ?? "demo-1";
    const stream = this.haggling();
    if (choice.extended === true) stream.send(option(11));
    else if (choice.structured === true || choice.blockStatus === true) stream.send(option(8));
    if (choice.blockStatus === true) stream.send(option(10, metaData(name, ["base:allocation"])));
    stream.send(option(7, goData(name)));
    const last = takeOptionReplies(stream).at(-1);
    if (last?.type !== 1) throw new Error("the export did not open");
    return stream;
  }

  codes(): string[] {
    return this.events.map((event) => event.code);
  }
}

export function pattern(bytes: number, seed = 1): Uint8Array {
  const out = new Uint8Array(bytes);
  let state = seed >>> 0;
  for (let index = 0; index < bytes; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    out[index] = state >>> 24;
  }
  return out;
}
