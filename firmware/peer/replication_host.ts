/**
 * Replication of one appliance: accepts and makes connections on all NICs, and brings each to its group.
 *
 *   accepted ──hello in time──▶ judged ──▶ its group takes it, or it is refused with a reason
 *
 * Invariants:
 * - A caller is a stranger until its hello is judged: configured peer, common version, not ourselves. Strangers are bounded.
 * - The same refusal of the same array is told once, until it succeeds.
 */
import type { ByteStream, StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Clock } from "../../hal/api/clock.ts";
import type { Entropy } from "../../hal/api/entropy.ts";
import type { Nic } from "../../hal/api/nic.ts";
import { toHex } from "../codec/bytes.ts";
import type { EventSink } from "../manage/events.ts";
import { goldenDocument } from "../mirror/document.ts";
import type { GroupReplication } from "../mirror/group_replication.ts";
import { Dialler, type DialOwner } from "./dialler.ts";
import type { Hello, RefuseCode } from "./frame.ts";
import { protocolVersion, protocolVersionMin } from "./frame.ts";
import { checkSettings, defaultSettings, linkLimits, type ReplicationSettings } from "./limits.ts";
import { Link } from "./link.ts";
import type { LinkHost } from "./link_host.ts";

export interface PeerArrayConfig {
  readonly array: string;
  readonly appliances: readonly { readonly name: string; readonly addresses: readonly string[] }[];
}

/** A golden copy that a configured primary wants here. */
export interface GoldenGroupInfo {
  readonly id: string;
  readonly name: string;
  readonly primary: string;
  /** The group's first replication document; durable together with the group. */
  readonly document: unknown;
}

export interface GroupDirectory {
  /** The replication of a group of this appliance; "starting" while it is being recovered; null: there is no such group. */
  find(id: string): GroupReplication | "starting" | null;
  /** `done` with the started replication, or why not. Called again for the same id only after `done`. */
  createGolden(info: GoldenGroupInfo, done: (group: GroupReplication | null, why: string | null) => void): void;
}

export interface ReplicationHostOptions {
  readonly hal: { readonly clock: Clock; readonly entropy: Entropy; readonly nics: readonly Nic[] };
  /** `id`: 32 hex digits. */
  readonly array: { readonly name: string; readonly id: string };
  readonly appliance: string;
  readonly peers: readonly PeerArrayConfig[];
  readonly events: EventSink;
  readonly settings?: Partial<ReplicationSettings>;
  readonly groups: GroupDirectory;
}

/** Keys of things told once; the oldest are forgotten. */
const toldMax = 1000;

export class ReplicationHost implements LinkHost {
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly events: EventSink;
  readonly settings: ReplicationSettings;
  readonly array: { readonly name: string; readonly id: string };
  readonly appliance: string;
  readonly session: string;
  readonly #nics: readonly Nic[];
  readonly #peers: ReadonlyMap<string, PeerArrayConfig>;
  readonly #groups: GroupDirectory;
  readonly #strangers = new Set<Link>();
  readonly #told = new Set<string>();
  readonly #creating = new Set<string>();
  readonly #arrayIds = new Map<string, string>();
  #stopped = false;

  constructor(options: ReplicationHostOptions) {
    this.clock = options.hal.clock;
    this.entropy = options.hal.entropy;
    this.events = options.events;
    this.settings = { ...defaultSettings, ...options.settings };
    checkSettings(this.settings);
    this.array = options.array;
    this.appliance = options.appliance;
    this.session = toHex(this.entropy.fill(new Uint8Array(16)));
    this.#nics = options.hal.nics;
    this.#peers = new Map(
      options.peers.filter((peer) => peer.array !== options.array.name).map((peer) => [peer.array, peer]),
    );
    this.#groups = options.groups;
  }

  /** Listens on every NIC. `done` with the errors, one text per NIC that could not be opened. */
  start(done: (errors: readonly string[]) => void): void {
    const errors: string[] = [];
    let open = this.#nics.length;
    if (open === 0) done(errors);
    for (const nic of this.#nics) {
      nic.listen(
        (stream) => this.#accept(stream),
        (error) => {
          if (error !== null) errors.push(error);
          open--;
          if (open === 0) done(errors);
        },
      );
    }
  }

  /** Accepts no more. The groups are stopped by their owner, before or after. */
  stop(): void {
    this.#stopped = true;
    for (const nic of this.#nics) nic.close();
    for (const stranger of [...this.#strangers]) stranger.abort("aborted", "stopping");
    this.#strangers.clear();
  }

  knows(array: string): boolean {
    return this.#peers.has(array);
  }

  dialler(array: string, owner: DialOwner): Dialler {
    const addresses = (this.#peers.get(array)?.appliances ?? []).flatMap((appliance) => appliance.addresses);
    const hal = { clock: this.clock, entropy: this.entropy, nics: this.#nics };
    return new Dialler(hal, this.settings, addresses, {
      hello: () => (this.#stopped ? null : owner.hello()),
      answered: (link, theirs) => {
        const fault = this.#judge(theirs) ?? (theirs.array === array ? null : wrongArray(array, theirs));
        if (fault === null) {
          if (!owner.answered(link, theirs)) return false;
          this.#forgetAll(array);
          return true;
        }
        owner.refused(fault.code, fault.text);
        link.send({ kind: "refuse", ...fault });
        return false;
      },
      refused: (code, text) => owner.refused(code, text),
    });
  }

  tellOnce(key: string, tell: () => void): void {
    if (this.#told.has(key)) return;
    if (this.#told.size >= toldMax) this.#told.clear();
    this.#told.add(key);
    tell();
  }

  forget(key: string): void {
    this.#told.delete(key);
  }

  #forgetAll(array: string): void {
    for (const key of this.#told) if (key.split(" ").includes(array)) this.#told.delete(key);
  }

  #accept(stream: ByteStream): StreamHandler {
    const link = new Link(stream, false, this.clock, this.settings);
    if (this.#stopped) {
      this.clock.defer(() => link.abort("aborted", "stopping"));
      return link.handler;
    }
    if (this.#strangers.size >= linkLimits.strangersMax) {
      this.tellOnce("strangers", () =>
        this.events.emit("peer-strangers", "too many connections have not said who they are; the oldest are closed"),
      );
      // A peer says hello at once: whoever has been silent for longest is none.
      const [oldest] = this.#strangers;
      oldest?.abort("aborted", "too many strangers");
    }
    this.#strangers.add(link);
    const timer = this.clock.after(this.settings.peerTimeoutMs, () => {
      if (this.#strangers.has(link)) link.abort("timeout", "no hello in time");
    });
    link.owner = {
      onFrame: (frame) => {
        if (!this.#strangers.delete(link)) return;
        timer.cancel();
        if (frame.kind === "hello") this.#introduce(link, frame);
        else {
          this.#tellStranger(link, `a ${frame.kind} frame came before a hello`);
          link.abort("aborted", "not a hello");
        }
      },
      onLost: (reason, text) => {
        timer.cancel();
        if (this.#strangers.delete(link) && reason === "malformed") this.#tellStranger(link, text);
      },
      onBeat: () => {},
    };
    return link.handler;
  }

  #tellStranger(link: Link, text: string): void {
    this.tellOnce(`stranger ${link.remote}`, () =>
      this.events.emit("peer-malformed", `a connection from ${link.remote} was closed: ${text}`, {
        remote: link.remote,
      }),
    );
  }

  #introduce(link: Link, theirs: Hello): void {
    const fault = this.#judge(theirs);
    if (fault !== null) return this.#refuse(link, theirs, fault.code, fault.text);
    const group = this.#groups.find(theirs.groupId);
    if (group === "starting") {
      return this.#refuse(link, theirs, "busy", `${theirs.groupName} is being recovered on ${this.array.name}`);
    }
    if (group !== null) return this.#bring(link, theirs, group);
    if (theirs.role !== "primary" || !theirs.peers.some((peer) => peer.array === this.array.name)) {
      return this.#refuse(link, theirs, "unknown-group", `${this.array.name} has no group ${theirs.groupName}`);
    }
    if (this.#creating.has(theirs.groupId))
      return this.#refuse(link, theirs, "busy", "the group is just being created");
    const mode = theirs.peers.find((peer) => peer.array === this.array.name)?.mode ?? "async";
    this.#creating.add(theirs.groupId);
    const info = {
      id: theirs.groupId,
      name: theirs.groupName,
      primary: theirs.array,
      document: goldenDocument(theirs.array, mode),
    };
    this.#groups.createGolden(info, (created, why) => {
      this.#creating.delete(theirs.groupId);
      if (created !== null) {
        this.events.emit("golden-created", `${theirs.array} replicates ${theirs.groupName} to ${this.array.name}`, {
          group: theirs.groupName,
          peer: theirs.array,
        });
        this.#bring(link, theirs, created);
      } else
        this.#refuse(link, theirs, "unknown-group", `the group could not be created on ${this.array.name}: ${why}`);
    });
  }

  #bring(link: Link, theirs: Hello, group: GroupReplication): void {
    if (!link.open) return;
    const outcome = group.offer(link, theirs);
    if (outcome === "taken") return this.#forgetAll(theirs.array);
    const text = {
      duplicate: "another connection of this pair stays",
      busy: "the group's role is changing, or it starts or stops",
      "not-a-peer": `${theirs.groupName} on ${this.array.name} does not replicate with ${theirs.array}`,
    }[outcome];
    this.#refuse(link, theirs, outcome, text);
  }

  #refuse(link: Link, theirs: Hello, code: RefuseCode, text: string): void {
    if (code !== "duplicate" && code !== "busy") {
      this.tellOnce(`${theirs.groupId} ${theirs.array} refused ${code}`, () =>
        this.events.emit(
          "peer-caller-refused",
          `a link from ${theirs.array} for ${theirs.groupName} was refused: ${text}`,
          {
            peer: theirs.array,
            reason: code,
          },
        ),
      );
    }
    link.send({ kind: "refuse", code, text });
    link.close("closed", text);
  }

  #judge(theirs: Hello): { readonly code: RefuseCode; readonly text: string } | null {
    if (theirs.versionMin > protocolVersion || theirs.version < protocolVersionMin) {
      const ours = `${protocolVersionMin} to ${protocolVersion}`;
      const text = `${theirs.array} speaks versions ${theirs.versionMin} to ${theirs.version}, ${this.array.name} ${ours}`;
      return { code: "version", text };
    }
    if (theirs.array === this.array.name || theirs.arrayId === this.array.id) {
      return {
        code: "self",
        text: `${this.array.name} has called itself; check the peer's addresses in the board profile`,
      };
    }
    if (!this.knows(theirs.array)) {
      return {
        code: "unknown-array",
        text: `${theirs.array} is not a peer of ${this.array.name}; add it to the board profile`,
      };
    }
    const knownId = this.#arrayIds.get(theirs.array);
    if (knownId !== undefined && knownId !== theirs.arrayId) {
      // Built anew, or another one under that name: what its groups hold is judged by their lineage either way.
      this.events.emit("peer-id-changed", `${theirs.array} had id ${knownId} before and has ${theirs.arrayId} now`, {
        peer: theirs.array,
      });
    }
    this.#arrayIds.set(theirs.array, theirs.arrayId);
    return null;
  }
}

function wrongArray(expected: string, theirs: Hello): { readonly code: RefuseCode; readonly text: string } {
  return { code: "wrong-array", text: `${expected} was called and ${theirs.array} answered; check the addresses` };
}
