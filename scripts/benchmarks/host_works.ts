/**
 * `scripts/bench host`: what a host gets, over both protocols, beside the servers that hosts use today. The default asks for what has a
 * bar and a little around it (about five minutes); `--full` measures the whole matrix, each point once.
 */
import { alone, aloneIscsi } from "./appliances.ts";
import { tgtd } from "./iscsi_servers.ts";
import type { LoadKind } from "./load/plan.ts";
import { nbdkit, qemuNbd } from "./nbd_servers.ts";
import type { Bar, Bench, Work } from "./works.ts";

/** What is asked of a protocol: operations per second beside the peer, by the work's name; p99 beside the best of `tailPeers`. */
interface Bars {
  readonly peer: string;
  readonly iops: Readonly<Record<string, number>>;
  readonly tailPeers: readonly string[];
}

const nbdBars: Bars = {
  peer: "nbdkit",
  iops: { "4k-randread-d32": 1.5, "4k-randwrite-d32-burst": 1.1, "1m-read-d8": 0.9, "1m-write-d8": 0.6 },
  tailPeers: ["nbdkit", "qemu-nbd"],
};
const iscsiBars: Bars = {
  peer: "tgtd",
  iops: { "4k-randread-d32": 2.5, "4k-randwrite-d32-burst": 2.5, "1m-read-d8": 1.5, "1m-write-d8": 1.5 },
  tailPeers: [],
};
const minuteBar: Bar = { peers: ["nbdkit"], measure: "iops", ratioAtLeast: 0.9 };

/** 128 MiB: half of the appliance's cache, whatever a record's header adds. */
const burstOps = 32768;
const sizes = { "4k": 4096, "64k": 65536, "1m": 1048576 } as const;

interface Point {
  readonly size: keyof typeof sizes;
  readonly kind: LoadKind;
  readonly depth: number;
  readonly connections: number;
}

function workOf({ size, kind, depth, connections }: Point): Work {
  const name = `${size}-${kind}-d${depth}${connections === 1 ? "" : `-c${connections}`}`;
  return { name, kind, blockBytes: sizes[size], depth, connections, settledFirst: true };
}

function withBars(work: Work, bars: Bars): Work {
  const own: Bar[] = [];
  const ratioAtLeast = bars.iops[work.name];
  if (ratioAtLeast !== undefined) own.push({ peers: [bars.peer], measure: "iops", ratioAtLeast });
  if (bars.tailPeers.length > 0 && work.depth === 32)
    own.push({ peers: bars.tailPeers, measure: "p99", ratioAtLeast: 1 });
  // What nothing is asked of is measured once.
  return own.length === 0 ? { ...work, rounds: 1 } : { ...work, bars: own };
}

const point = (size: Point["size"], kind: LoadKind, depth: number, connections = 1) =>
  workOf({ size, kind, depth, connections });

const chosenWorks: readonly Work[] = [
  point("4k", "randread", 32),
  { ...point("4k", "randwrite", 32), name: "4k-randwrite-d32-burst", opsMax: burstOps },
  point("1m", "read", 8),
  point("1m", "write", 8),
  point("4k", "randrw", 32),
  point("64k", "randread", 32),
  point("64k", "randwrite", 32),
  point("4k", "randread", 32, 4),
  point("4k", "randwrite", 32, 4),
  point("4k", "randread", 1),
  point("4k", "randwrite", 1),
];

const minute: Work = {
  ...point("4k", "randwrite", 32),
  name: "4k-randwrite-d32-60s",
  seconds: 60,
  rounds: 1,
  bars: [minuteBar],
};

function wholeMatrix(): Work[] {
  const works: Work[] = [];
  for (const size of ["4k", "64k", "1m"] as const)
    for (const kind of ["randread", "randwrite", "randrw", "read", "write", "rw"] as const)
      for (const depth of [1, 8, 32])
        for (const connections of [1, 4]) works.push({ ...workOf({ size, kind, depth, connections }), rounds: 1 });
  return works;
}

export type Protocol = "nbd" | "iscsi";

export function hostBenches(options: { full: boolean; only: Protocol | null }): Bench[] {
  const works = options.full ? wholeMatrix() : chosenWorks;
  const judged = (bars: Bars) => (options.full ? works : works.map((work) => withBars(work, bars)));
  const benches: (Bench & { protocol: Protocol })[] = [
    {
      protocol: "nbd",
      name: "host-nbd",
      question: "NBD: one appliance beside nbdkit and qemu-nbd",
      contenders: [alone, nbdkit, qemuNbd],
      works: judged(nbdBars),
    },
    {
      protocol: "iscsi",
      name: "host-iscsi",
      question: "iSCSI: one appliance beside tgtd",
      contenders: [aloneIscsi, tgtd],
      works: judged(iscsiBars),
    },
    {
      protocol: "nbd",
      name: "host-minute",
      question: "NBD: 60 s of random writes, with destage under way",
      contenders: [alone, nbdkit],
      works: options.full ? [] : [minute],
    },
  ];
  return benches.filter(({ protocol }) => options.only === null || options.only === protocol);
}
