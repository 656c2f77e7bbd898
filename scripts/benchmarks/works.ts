/** What is done to a server, and which servers are compared by it. */
import { alone, asyncPair, cachePair, syncPair } from "./appliances.ts";
import type { Contender } from "./contenders.ts";
import { failover } from "./failover.ts";
import type { Probe } from "./findings.ts";
import type { LoadKind } from "./load/plan.ts";
import { memory } from "./memory.ts";
import { frontEnd, nbdkit, qemuNbd } from "./nbd_servers.ts";
import { qemuMirror } from "./qemu_mirror.ts";
import { restart } from "./restart.ts";
import { takeover } from "./takeover.ts";

export interface Work {
  readonly name: string;
  readonly kind: LoadKind;
  readonly blockBytes: number;
  /** On each connection. */
  readonly depth: number;
  /** 1 unless it says otherwise. */
  readonly connections?: number;
  /** The length of a run when it is part of the question; otherwise as asked on the command line. */
  readonly seconds?: number;
  /** A burst: so many operations, from a settled start. */
  readonly opsMax?: number;
  /** Rounds, when a run is long. */
  readonly rounds?: number;
  /** Starts only when everything before has been destaged and replicated. */
  readonly settledFirst?: boolean;
  /** What ours must reach. */
  readonly bars?: readonly Bar[];
}

/** At least so many times a peer's operations per second, or the inverse of its latency. */
export interface Bar {
  /** Of several the best one counts. */
  readonly peers: readonly string[];
  readonly measure: "iops" | "p50" | "p99";
  readonly ratioAtLeast: number;
}

const beside = (
  peer: string,
  ratioAtLeast: number,
  measure: Bar["measure"] = "iops",
): Pick<Required<Work>, "bars"> => ({
  bars: [{ peers: [peer], measure, ratioAtLeast }],
});

export interface Bench {
  readonly name: string;
  readonly question: string;
  /** The first one is ours; its ratio to the others is the answer. */
  readonly contenders: readonly Contender[];
  readonly works: readonly Work[];
  /** Not part of a run without names: what it says is told by another bench, or it takes long. */
  readonly onRequest?: boolean;
}

const randomRead: Work = { name: "4k-randread-d32", kind: "randread", blockBytes: 4096, depth: 32, settledFirst: true };
/** 128 MiB: half the cache of 256 MiB, whatever a record's header adds. */
const writeBurst: Work = {
  name: "4k-randwrite-d32-burst",
  kind: "randwrite",
  blockBytes: 4096,
  depth: 32,
  opsMax: 32768,
  settledFirst: true,
};
const writeMinute: Work = {
  name: "4k-randwrite-d32-60s",
  kind: "randwrite",
  blockBytes: 4096,
  depth: 32,
  seconds: 60,
  rounds: 1,
  settledFirst: true,
};
const randomWrite: Work = {
  name: "4k-randwrite-d32",
  kind: "randwrite",
  blockBytes: 4096,
  depth: 32,
  settledFirst: true,
};
const randomWriteD1: Work = { name: "4k-randwrite-d1", kind: "randwrite", blockBytes: 4096, depth: 1 };
const bigRead: Work = { name: "1m-read-d4", kind: "read", blockBytes: 1048576, depth: 4, settledFirst: true };
const bigWrite: Work = { name: "1m-write-d4", kind: "write", blockBytes: 1048576, depth: 4, settledFirst: true };
const randomReadD1: Work = { name: "4k-randread-d1", kind: "randread", blockBytes: 4096, depth: 1 };

export const benches: readonly Bench[] = [
  {
    name: "nbd",
    question: "one appliance beside plain NBD servers",
    contenders: [alone, nbdkit, qemuNbd],
    works: [
      { ...randomRead, ...beside("nbdkit", 1.3) },
      { ...writeBurst, ...beside("nbdkit", 1) },
      { ...bigRead, ...beside("nbdkit", 0.8) },
      { ...bigWrite, ...beside("nbdkit", 0.4) },
      randomReadD1,
      randomWriteD1,
    ],
  },
  {
    name: "nbd-minute",
    question: "the same, 60 s of random writes with destage under way",
    contenders: [alone, nbdkit],
    works: [{ ...writeMinute, ...beside("nbdkit", 0.7) }],
  },
  {
    name: "sync-mirror",
    question: "synchronous replication beside QEMU's write-blocking mirror",
    contenders: [syncPair, qemuMirror],
    works: [
      { ...randomWrite, ...beside("qemu-mirror", 2.5) },
      { ...randomWriteD1, ...beside("qemu-mirror", 1, "p50") },
    ],
  },
  {
    name: "pair-mirror",
    question: "a pair that mirrors its write cache, without a peer, beside QEMU's write-blocking mirror",
    contenders: [cachePair, qemuMirror],
    works: [
      { ...randomWrite, ...beside("qemu-mirror", 2.5) },
      { ...bigWrite, ...beside("qemu-mirror", 2) },
    ],
  },
  {
    name: "async-cost",
    question: "what asynchronous replication costs the host: with a peer ÷ without",
    contenders: [asyncPair, alone],
    // At most 40 % of the host's writes per second.
    works: [{ ...randomWrite, seconds: 10, rounds: 3, ...beside("goldcopy", 0.6) }],
  },
  {
    name: "front-end",
    question: "the NBD front end alone, over memory",
    contenders: [frontEnd, nbdkit],
    works: [randomRead, randomWrite, bigRead, bigWrite, randomReadD1, randomWriteD1],
    onRequest: true,
  },
];

/** Measured against a fixed bar. */
export const probes: readonly Probe[] = [restart, takeover, memory, failover];
