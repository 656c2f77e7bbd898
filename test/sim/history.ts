/**
 * What was written, in the order in which primaries admitted it: a tree of timelines, each a list of records, and the image that a
 * position in it stands for. The measure of every check of order and durability.
 *
 *     root ──▶ timeline A: 1 2 3 4 5 6
 *                     └──▶ timeline B: (opening) 5 6 7      forked at A's seq 4
 *
 * Invariants:
 * - A record's identity is (timeline, seq); two different records under one identity are reported (O3).
 * - An image is the number of the write that each sector holds; 0 is zeros.
 */
const sectorsPerBlock = 8;

export const rootTimelineId = "0".repeat(32);

export interface HistoryVolume {
  /** The group's number for it. */
  readonly number: number;
  readonly name: string;
  readonly sectorCount: number;
}

/** One record that changes blocks, or concerns the group (`volume` 0). */
export interface HistoryRecord {
  readonly timeline: Timeline;
  readonly seq: number;
  readonly kind: number;
  /** Checksum of the record's header, which covers the payload's checksums. */
  readonly headerCrc: number;
  readonly volume: number;
  readonly startLba: number;
  readonly sectorCount: number;
  /** The write whose data it holds; 0: zeros. */
  readonly write: number;
  /** The host command that it belongs to; null: none. */
  readonly command: HostWrite | null;
  readonly atMs: number;
}

/** A host's write, zero or trim command. */
export interface HostWrite {
  readonly number: number;
  readonly kind: "write" | "zero" | "trim";
  readonly volume: number;
  readonly startLba: number;
  readonly sectorCount: number;
  readonly issuedMs: number;
  /** null: not acknowledged. */
  ackedMs: number | null;
  readonly records: HistoryRecord[];
  recordedSectors: number;
  /** By which array's hosts it was issued. */
  readonly array: string;
}

export class Timeline {
  readonly id: string;
  readonly parent: Timeline | null;
  /** The parent's last seq that belongs to this timeline's past. */
  readonly forkSeq: number;
  /** The array that opened it. */
  readonly opener: string;
  readonly openedMs: number;
  readonly records: HistoryRecord[] = [];
  /** As far as its opener is known to have committed it. */
  committedSeq: number;

  constructor(id: string, parent: Timeline | null, forkSeq: number, opener: string, openedMs: number) {
    this.id = id;
    this.parent = parent;
    this.forkSeq = forkSeq;
    this.opener = opener;
    this.openedMs = openedMs;
    this.committedSeq = forkSeq;
  }

  get lastSeq(): number {
    return this.forkSeq + this.records.length;
  }

  at(seq: number): HistoryRecord | undefined {
    return this.records[seq - this.forkSeq - 1];
  }
}

export interface Position {
  readonly timeline: Timeline;
  readonly seq: number;
}

export type Image = readonly Int32Array[];

export class History {
  readonly volumes: readonly HistoryVolume[];
  readonly root = new Timeline(rootTimelineId, null, 0, "", 0);
  readonly #timelines = new Map<string, Timeline>([[rootTimelineId, this.root]]);
  readonly #indexOf = new Map<number, number>();

  constructor(volumes: readonly HistoryVolume[]) {
    this.volumes = volumes;
    volumes.forEach((volume, index) => {
      this.#indexOf.set(volume.number, index);
    });
  }

  timelines(): readonly Timeline[] {
    return [...this.#timelines.values()];
  }

  timeline(id: string): Timeline | undefined {
    return this.#timelines.get(id);
  }

  open(id: string, parent: Timeline, forkSeq: number, opener: string, atMs: number): Timeline {
    const timeline = new Timeline(id, parent, forkSeq, opener, atMs);
    this.#timelines.set(id, timeline);
    return timeline;
  }

  blankImage(): Image {
    return this.volumes.map((volume) => new Int32Array(volume.sectorCount));
  }

  /** -1: not a volume of this history. */
  volumeIndex(number: number): number {
    return this.#indexOf.get(number) ?? -1;
  }

  apply(image: Image, record: HistoryRecord): void {
    const index = this.volumeIndex(record.volume);
    if (index < 0) return;
    image[index]!.fill(record.write, record.startLba, record.startLba + record.sectorCount);
  }

  /** Whether record (timeline, seq) belongs to the past of `position`. */
  contains(position: Position, timeline: Timeline, seq: number): boolean {
    let limit = position.seq;
    for (let at: Timeline | null = position.timeline; at !== null; at = at.parent) {
      if (at === timeline) return seq <= limit;
      limit = Math.min(limit, at.forkSeq);
    }
    return false;
  }

  /** The position cut to the timeline that its seq was written on. */
  normal(position: Position): Position {
    let { timeline } = position;
    while (position.seq <= timeline.forkSeq && timeline.parent !== null) timeline = timeline.parent;
    return { timeline, seq: position.seq };
  }

  /** The records between two positions, in order; null when `from` does not lie in the past of `to`. */
  between(from: Position, to: Position): HistoryRecord[] | null {
    if (!this.contains(to, this.normal(from).timeline, from.seq)) return null;
    const parts: HistoryRecord[][] = [];
    let limit = to.seq;
    for (let at: Timeline | null = to.timeline; at !== null && limit > from.seq; at = at.parent) {
      const first = Math.max(0, from.seq - at.forkSeq);
      parts.push(at.records.slice(first, Math.max(first, limit - at.forkSeq)));
      limit = Math.min(limit, at.forkSeq);
    }
    return parts.reverse().flat();
  }

  /** Whether a record behind `position` on its timeline touches a physical block of the range. */
  isTouchedBehind({ timeline, seq }: Position, volume: number, startLba: number, sectorCount: number): boolean {
    const from = startLba - (startLba % sectorsPerBlock);
    const end = startLba + sectorCount;
    const to = end + ((sectorsPerBlock - (end % sectorsPerBlock)) % sectorsPerBlock);
    return timeline.records.some(
      (record) =>
        record.seq > seq &&
        record.volume === volume &&
        record.startLba < to &&
        record.startLba + record.sectorCount > from,
    );
  }

  imageAt(position: Position): Image {
    const image = this.blankImage();
    for (const record of this.between({ timeline: this.root, seq: 0 }, position) ?? []) this.apply(image, record);
    return image;
  }

  /** Where the pasts of two positions part. */
  forkOf(a: Position, b: Position): Position {
    const limits = new Map<Timeline, number>();
    let limit = a.seq;
    for (let at: Timeline | null = a.timeline; at !== null; at = at.parent) {
      limits.set(at, limit);
      limit = Math.min(limit, at.forkSeq);
    }
    limit = b.seq;
    for (let at: Timeline | null = b.timeline; at !== null; at = at.parent) {
      const common = limits.get(at);
      if (common !== undefined) return this.normal({ timeline: at, seq: Math.min(common, limit) });
      limit = Math.min(limit, at.forkSeq);
    }
    return { timeline: this.root, seq: 0 };
  }

  describe(position: Position): string {
    return `${position.timeline.id.slice(0, 8)}:${position.seq}`;
  }
}
