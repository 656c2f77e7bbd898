/**
 * The hardware as the array's firmware has it while this appliance owns the array, and not a moment longer.
 *
 *     open ──end()──▶ ending: no callback reaches the tenant, nothing new begins ──the last disk operation has ended──▶ ended
 *
 * A hand-over to the partner is a death of the firmware that was decided here: whatever it would still do has no effect, as after a
 * real death, and the partner's start is the same recovery.
 *
 * Invariants:
 * - After `end()` has been called nothing calls into the tenant, and nothing that it calls reaches the hardware.
 * - When `end()` resolves, nothing of the tenant is under way at a disk.
 */
import type { ByteStream, StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Clock } from "../../hal/api/clock.ts";
import type { Hal } from "../../hal/api/hal.ts";
import type { HbaPort, HostStream } from "../../hal/api/hba.ts";
import type { Nic } from "../../hal/api/nic.ts";
import type { Disk, DiskError, Shelf } from "../../hal/api/shelf.ts";
import type { WriteCache } from "../../hal/api/write_cache.ts";
import { turnedAway } from "./turned_away.ts";

/** What ports of either kind have in common. */
interface Listening<Stream extends ByteStream> {
  listen(accept: (stream: Stream) => StreamHandler, done: (error: string | null) => void): void;
  close(): void;
}

type DiskDone = (error: DiskError | null) => void;

export class HardwareLease {
  readonly hal: Hal;
  #open = true;
  #underWay = 0;
  readonly #streams = new Set<ByteStream>();
  readonly #listening = new Set<{ close(): void }>();
  #onQuiet: (() => void) | null = null;

  /** `hal`: what is lent; its cache is the array's, its ports and NICs those that the tenant may use. */
  constructor(hal: Hal) {
    this.hal = {
      clock: this.#clock(hal.clock),
      entropy: hal.entropy,
      digests: hal.digests,
      hbaPorts: hal.hbaPorts.map((port) => this.#port(port)),
      nics: hal.nics.map((nic) => this.#nic(nic, hal.clock)),
      heartbeats: null,
      // Whoever owns the array holds them (`service_ports.ts`): they stay when this firmware ends, until the partner has them.
      serviceAddresses: [],
      cache: this.#cache(hal.cache),
      shelves: hal.shelves.map((shelf) => this.#shelf(shelf)),
      power: null,
      witness: hal.witness,
    };
  }

  get open(): boolean {
    return this.#open;
  }

  /** A stream that came in elsewhere (the partner's port), under the same terms. */
  lend(stream: ByteStream, handler: StreamHandler): StreamHandler {
    this.#streams.add(stream);
    return {
      onData: (chunk) => {
        if (this.#open) handler.onData(chunk);
      },
      onDrain: () => {
        if (this.#open) handler.onDrain();
      },
      onEnd: () => {
        if (this.#open) handler.onEnd();
      },
      onClose: () => {
        this.#streams.delete(stream);
        if (this.#open) handler.onClose();
      },
    };
  }

  end(): Promise<void> {
    this.#open = false;
    for (const port of this.#listening) port.close();
    this.#listening.clear();
    for (const stream of [...this.#streams]) stream.abort();
    return new Promise((resolve) => {
      this.#onQuiet = resolve;
      if (this.#underWay === 0) resolve();
    });
  }

  #clock(clock: Clock): Clock {
    return {
      nowMs: () => clock.nowMs(),
      wallMs: () => clock.wallMs(),
      after: (delayMs, fire) =>
        clock.after(delayMs, () => {
          if (this.#open) fire();
        }),
      defer: (task) =>
        clock.defer(() => {
          if (this.#open) task();
        }),
    };
  }

  #port(port: HbaPort): HbaPort {
    return {
      name: port.name,
      get address() {
        return port.address;
      },
      protocol: port.protocol,
      movesWithOwner: port.movesWithOwner,
      ...this.#listener<HostStream>(port),
    };
  }

  #listener<Stream extends ByteStream>(port: Listening<Stream>): Listening<Stream> {
    return {
      listen: (accept, done) => {
        if (!this.#open) return;
        this.#listening.add(port);
        port.listen(
          (stream) => this.lend(stream, accept(stream)),
          (error) => {
            if (this.#open) done(error);
          },
        );
      },
      close: () => {
        if (this.#open) port.close();
      },
    };
  }

  #nic(nic: Nic, clock: Clock): Nic {
    return {
      name: nic.name,
      get address() {
        return nic.address;
      },
      ...this.#listener<ByteStream>(nic),
      connect: (address, connected, failed) => {
        if (!this.#open) return;
        nic.connect(
          address,
          (stream) => {
            if (this.#open) return this.lend(stream, connected(stream));
            return turnedAway(clock, stream);
          },
          (reason) => {
            if (this.#open) failed(reason);
          },
        );
      },
      shape: (remote, shaping) => nic.shape(remote, shaping),
      shapings: () => nic.shapings(),
    };
  }

  #cache(cache: WriteCache): WriteCache {
    return {
      sizeBytes: cache.sizeBytes,
      domain: cache.domain,
      memory: cache.memory,
      battery: () => cache.battery(),
      onBattery: (listener) =>
        cache.onBattery((state) => {
          if (this.#open) listener(state);
        }),
      wrote: (offsetBytes, lengthBytes) => {
        if (this.#open) cache.wrote(offsetBytes, lengthBytes);
      },
      persist: (done) => {
        if (!this.#open) return;
        cache.persist((outcome) => {
          if (this.#open) done(outcome);
        });
      },
    };
  }

  #shelf(shelf: Shelf): Shelf {
    return {
      name: shelf.name,
      fencing: shelf.fencing,
      disks: shelf.disks.map((disk) => (disk === null ? null : this.#disk(disk))),
    };
  }

  #disk(disk: Disk): Disk {
    const begin = (done: DiskDone): DiskDone => {
      this.#underWay++;
      return (error) => {
        this.#underWay--;
        if (this.#open) done(error);
        else if (this.#underWay === 0) this.#onQuiet?.();
      };
    };
    return {
      place: disk.place,
      sizeBytes: disk.sizeBytes,
      read: (offsetBytes, target, done) => {
        if (this.#open) disk.read(offsetBytes, target, begin(done));
      },
      tryRead: (offsetBytes, target) => this.#open && disk.tryRead(offsetBytes, target),
      write: (offsetBytes, sources, done) => {
        if (this.#open) disk.write(offsetBytes, sources, begin(done));
      },
      flush: (done) => {
        if (this.#open) disk.flush(begin(done));
      },
      discard: (offsetBytes, lengthBytes, done) => {
        if (this.#open) disk.discard(offsetBytes, lengthBytes, begin(done));
      },
    };
  }
}
