/** What a load generator is told, and what it tells. */

/** fio's words; the mixed ones are 70 % reads. */
export const loadKinds = ["randread", "randwrite", "randrw", "read", "write", "rw"] as const;
export type LoadKind = (typeof loadKinds)[number];

export const readShareOf: Readonly<Record<LoadKind, number>> = {
  randread: 1,
  randwrite: 0,
  randrw: 0.7,
  read: 1,
  write: 0,
  rw: 0.7,
};

export interface LoadPlan {
  /** `nbd://HOST:PORT/EXPORT` or `iscsi://HOST:PORT/IQN/LUN`. */
  readonly url: string;
  readonly kind: LoadKind;
  readonly blockBytes: number;
  /** Requests in flight on each connection. */
  readonly depth: number;
  readonly connections: number;
  readonly seconds: number;
  /** The part of the volume that is used; 0: all. */
  readonly sizeBytes: number;
  /** `timed`: for `seconds`; `once`: one pass over the size; `endless`: until it is killed; or a number of operations. */
  readonly until: "timed" | "once" | "endless" | number;
}

export interface LoadResult {
  readonly ops: number;
  readonly seconds: number;
  readonly iops: number;
  readonly bytesPerSecond: number;
  readonly latencyUsP50: number;
  readonly latencyUsP99: number;
  /** What the generator itself has cost. */
  readonly clientCpuSeconds: number;
}

export function parsePlan(text: string): LoadPlan {
  const plan = JSON.parse(text) as LoadPlan;
  const whole = [plan.blockBytes, plan.depth, plan.connections];
  const sound = whole.every((value) => Number.isSafeInteger(value) && value > 0) && loadKinds.includes(plan.kind);
  if (!sound || plan.depth > depthMax) throw new Error(`not a plan: ${text}`);
  return plan;
}

/** A slot's number has to fit the sixteen bits that the clients use for it. */
const depthMax = 1024;

export interface Place {
  readonly host: string;
  readonly port: number;
  /** What stands behind the port, without its slash. */
  readonly path: string;
}

export function placeOf(url: string): Place {
  const match = /^[a-z]+:\/\/(.+?):(\d+)\/(.*)$/.exec(url);
  if (match === null) throw new Error(`not a URL of a volume: ${url}`);
  return { host: match[1]!, port: Number(match[2]), path: match[3]! };
}
