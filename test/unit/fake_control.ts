/** A `Control` that records what it is asked and answers from values, and a clock that is moved by hand. */
import { type Control, done, type LabPort, type LinkShape, refused } from "../../firmware/manage/control.ts";
import type { GroupJson, HostJson, StatusJson, VolumeJson } from "../../firmware/manage/status_json.ts";
import type { Clock, Timer } from "../../hal/api/clock.ts";

export class ManualClock implements Clock {
  #nowMs = 0;
  readonly #timers = new Set<{ atMs: number; fire: () => void }>();

  nowMs(): number {
    return this.#nowMs;
  }
  wallMs(): number {
    return Date.UTC(2026, 10, 21, 3, 4, 5, 678) + this.#nowMs;
  }
  after(delayMs: number, fire: () => void): Timer {
    const timer = { atMs: this.#nowMs + delayMs, fire };
    this.#timers.add(timer);
    return { cancel: () => this.#timers.delete(timer) };
  }
  defer(task: () => void): void {
    queueMicrotask(task);
  }
  pendingTimers(): number {
    return this.#timers.size;
  }
  advance(byMs: number): void {
    this.#nowMs += byMs;
    for (const timer of [...this.#timers].sort((a, b) => a.atMs - b.atMs)) {
      if (timer.atMs > this.#nowMs || !this.#timers.delete(timer)) continue;
      timer.fire();
    }
  }
}

export const timelineText = "0123456789abcdef0123456789abcdef";

export function fakeGroup(over: Partial<GroupJson> = {}): GroupJson {
  return {
    name: "demo",
    role: "primary",
    writable: true,
    why: null,
    settled: true,
    state: "in-sync",
    owner: "oak-a",
    primary: "oak",
    timeline: timelineText,
    headSeq: 120,
    commitSeq: 120,
    appliedSeq: 100,
    receivedSeq: 120,
    viewSeq: 120,
    logBytes: 5 * 1024 * 1024,
    volumes: ["demo-1", "demo-2"],
    peers: [
      {
        array: "elm",
        mode: "async",
        state: "catching-up",
        receivedSeq: 110,
        appliedSeq: 90,
        protectedThroughSeq: 110,
        lagSeqs: 10,
        lagBytes: 40960,
        lagMs: 12,
        resyncBytesLeft: null,
      },
    ],
    operation: null,
    ...over,
  };
}

export function fakeStatus(over: Partial<StatusJson> = {}): StatusJson {
  return {
    array: "oak",
    appliance: "oak-a",
    version: "0.1.0",
    appliances: [
      { name: "oak-a", state: "up", battery: "good", cacheDirtyBytes: 3 * 1024 * 1024, cacheBytes: 256 * 1024 * 1024 },
    ],
    pair: null,
    groups: [fakeGroup()],
    warnings: [],
    ...over,
  };
}

export interface FakeControl {
  readonly control: Control;
  /** `group.migrate demo {"to":"elm",...}` */
  readonly calls: string[];
  status: StatusJson;
  /** What `groups.verify` and `groups.migrate` answer: replaced by tests. */
  migrate: () => ReturnType<Control["groups"]["migrate"]>;
}

export function fakeControl(): FakeControl {
  const calls: string[] = [];
  const note = (what: string, ...args: unknown[]) => {
    calls.push([what, ...args.map((arg) => (typeof arg === "string" ? arg : JSON.stringify(arg)))].join(" "));
  };
  const volume = (name: string, sizeBytes: number): VolumeJson => ({
    name,
    uuid: timelineText,
    group: "demo",
    sizeBytes,
    exported: "read-write",
    mappings: [{ host: "any", lun: 0, readOnly: false }],
  });
  const host: HostJson = {
    name: "any",
    any: true,
    addresses: [],
    iqns: [],
    tlsNames: [],
    chapUser: null,
    mappings: [],
  };
  const volumes = [volume("demo-1", 1024 ** 3), volume("demo-2", 1024 ** 3)];
  const fake: FakeControl = {
    calls,
    status: fakeStatus(),
    migrate: async () => done({ changed: true, primary: "elm", timeline: timelineText, heldMs: 12 }),
    control: {
      status: () => fake.status,
      volumes: {
        list: () => volumes,
        create: async (wanted) => {
          note("volume.create", wanted);
          return wanted.name === "taken"
            ? refused("exists", "volume taken exists already")
            : done(volume(wanted.name, wanted.sizeBytes));
        },
        resize: async (name, sizeBytes) => {
          note("volume.resize", name, sizeBytes);
          return done(volume(name, sizeBytes));
        },
        delete: async (name) => {
          note("volume.delete", name);
          return done({ removed: name });
        },
      },
      groups: {
        list: () => [...fake.status.groups],
        show: (name) => {
          const group = fake.status.groups.find((candidate) => candidate.name === name);
          if (group === undefined) return refused("not-found", `there is no group ${name}`);
          const usage = { dataBytes: 1 << 20, metadataBytes: 4096, logBytes: 0, reservedBytes: 0 };
          const salvage = [{ id: "salvage-1", forkSeq: 77, bytes: 8192 }];
          return done({
            ...group,
            id: timelineText,
            lineage: [{ timeline: timelineText, firstSeq: 1 }],
            salvage,
            usage,
          });
        },
        create: async ({ name }) => {
          note("group.create", name);
          return done(fakeGroup({ name, volumes: [], peers: [] }));
        },
        delete: async (name) => {
          note("group.delete", name);
          return done({ removed: name });
        },
        addPeer: async (name, peer) => {
          note("group.addPeer", name, peer);
          return done(fakeGroup({ name }));
        },
        setMode: async (name, peer) => {
          note("group.setMode", name, peer);
          return done(fakeGroup({ name }));
        },
        migrate: (name, options) => {
          note("group.migrate", name, options);
          return fake.migrate();
        },
        takeover: async (name, options) => {
          note("group.takeover", name, options);
          if (!options.force) return refused("primary-reachable", "oak answers: migrate instead, or use --force");
          const unknown = { maybeLostSeqs: 3, maybeLostBytes: null, maybeLostMs: null };
          return done({ changed: true, timeline: timelineText, forkSeq: 117, loss: "possible", ...unknown });
        },
        serveAlone: async (name, options) => {
          note("group.serveAlone", name, options);
          return done({ changed: true, timeline: timelineText });
        },
        resync: async (name, options) => {
          note("group.resync", name, options);
          const salvage = { id: "salvage-1", forkSeq: 77, bytes: 8192 };
          return done({ changed: true, from: options.from, salvage, receivedBytes: 1 << 20 });
        },
        failback: async (name, options) => {
          note("group.failback", name, options);
          return done({ changed: true, primary: "oak", salvage: null });
        },
        verify: async (name, options) => {
          note("group.verify", name, options);
          const digest = "ab".repeat(32);
          const shown = [{ name: "demo-1", equal: true, digest, peerDigest: digest }];
          const elm = { array: "elm", seq: 120, equal: true, comparedBytes: 1 << 30, volumes: shown };
          return done({ equal: true, peers: [elm] });
        },
      },
      hosts: {
        list: () => [host],
        add: async (wanted) => {
          note("host.add", wanted);
          const { chap, ...shown } = wanted;
          return done({ ...shown, chapUser: chap?.user ?? null, mappings: [] });
        },
        remove: async (name) => {
          note("host.remove", name);
          return done({ removed: name });
        },
        map: async (name, mapping) => {
          note("host.map", name, mapping);
          return done({ ...host, mappings: [{ ...mapping, lun: mapping.lun ?? 0 }] });
        },
        unmap: async (name, volumeName) => {
          note("host.unmap", name, volumeName);
          return done(host);
        },
      },
      peers: () => [
        {
          array: "elm",
          connected: true,
          appliances: [{ name: "elm-a", addresses: ["127.0.0.1:4100"] }],
          lastHeardMs: 20,
          why: null,
        },
      ],
      shelves: () => [{ name: "shelf0", fencing: "none", slots: 2, disksInUse: 2, sizeBytes: 1 << 30 }],
      disks: () => [{ place: "shelf0/0", state: "in-use", sizeBytes: 1 << 29, text: "in use" }],
      scrub: async () => ({
        ok: true,
        value: { intact: true, checkedBytes: 4096, damagedBlocks: 0, damaged: [] },
      }),
      pools: () => [{ name: "oak", totalBytes: 1 << 30, freeBytes: 1 << 29, groups: [] }],
      pair: null,
      caches: () => [
        {
          appliance: "oak-a",
          persistence: "battery",
          battery: "good",
          mode: "write-back",
          sizeBytes: 256 << 20,
          dirtyBytes: 0,
          cacheAtRiskBytes: 0,
        },
      ],
      stop: async () => {
        note("stop");
      },
    },
  };
  return fake;
}

export function fakeLab(calls: string[]): LabPort {
  return {
    links: () => [],
    shape: (link: LinkShape) => {
      calls.push(`lab.shape ${JSON.stringify(link)}`);
      return done([{ ...link, nic: link.nic ?? "nic0" }]);
    },
    fault: ({ kind, on }) => {
      calls.push(`lab.fault ${kind} ${on}`);
      return done({ kind, on });
    },
    stall: ({ forMs }) => {
      calls.push(`lab.stall ${forMs}`);
      return done({ forMs });
    },
  };
}
