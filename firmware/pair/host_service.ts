/**
 * Who serves the array to the hosts of this appliance, and what of that goes over the interconnect: the firmware here serves them and the
 * partner's, or the partner serves those of this appliance, or nobody does.
 *
 *     nobody ──letIn──▶ own ──letNobodyIn, then ended──▶ nobody          nobody ──the partner owns, its directory is here──▶ partner ──▶ nobody
 *
 * Invariant: the firmware's seat is settled only when nothing of the firmware is under way any more (`HardwareLease.end`).
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { HbaPort } from "../../hal/api/hba.ts";
import type { ArraySeat } from "../appliance.ts";
import type { Portal as IscsiPortal } from "../frontend/iscsi/text_exchange.ts";
import type { TargetPortGroup } from "../frontend/scsi/target_port_groups.ts";
import type { EventSink } from "../manage/events.ts";
import { type Directory, PartnerSeat, parseDirectory } from "./directory.ts";
import { Forwarded } from "./forwarded.ts";
import type { SendMessage } from "./forwarder.ts";
import type { PairMessage, Portal } from "./frame.ts";
import type { HostFront } from "./host_front.ts";
import { type GroupRoles, KnownRoles } from "./known_roles.ts";
import { pairLimits } from "./limits.ts";
import { ArrivingText, type SendText } from "./long_text.ts";
import { portGroupsOf, portPlaceOf } from "./port_groups.ts";

export interface HostServiceParts {
  readonly clock: Clock;
  readonly front: HostFront;
  /** Which part of the array it is about. */
  readonly part: number;
  readonly appliance: string;
  readonly partner: string;
  readonly ownPorts: readonly HbaPort[];
  readonly send: SendMessage;
  readonly sendText: SendText;
  /** What was asked of the partner, and may have to go to it once more, is kept: hosts' memory goes back to them. */
  keepAsked(): void;
  readonly events: EventSink;
  /** As the partner said last. */
  partnerOwns(): boolean;
}

export class HostService {
  readonly #parts: HostServiceParts;
  /** Of this session with the partner, or of the next one. */
  #forwarded: Forwarded;
  readonly #knownRoles: KnownRoles;
  #own: ArraySeat | null = null;
  #partner: PartnerSeat | null = null;
  #theirDirectory: Directory | null = null;
  /** What the partner was told last, or was to be; empty: nothing in this session. */
  #told = "";
  readonly #arriving = new ArrivingText(pairLimits.directoryBytesMax);
  #isEnding = false;
  #partnerPorts: readonly Portal[] = [];

  constructor(parts: HostServiceParts) {
    this.#parts = parts;
    this.#forwarded = new Forwarded(parts.clock, parts.send);
    this.#knownRoles = new KnownRoles();
  }

  /** The firmware here serves hosts. */
  get letsHostsIn(): boolean {
    return this.#own !== null;
  }

  /** The firmware runs here: hosts are let in when its groups know their roles; `done` is called then. */
  letIn(seat: ArraySeat, groups: GroupRoles, done: () => void): void {
    this.#knownRoles.await(groups, () => {
      this.#own = seat;
      this.#forwarded.seat = seat;
      this.#parts.front.take(this.#parts.part, seat);
      seat.onDirectory(() => {
        if (this.#own === seat) this.tellDirectory();
      });
      this.tellDirectory();
      done();
    });
  }

  /** Hosts' commands wait from here on, at the partner too, and nothing goes into the firmware any more. */
  letNobodyIn(): void {
    this.#knownRoles.cancel();
    this.#forwarded.seat = null;
    if (this.#own === null) return;
    this.#own = null;
    this.#isEnding = true;
    this.#parts.front.leave(this.#parts.part);
  }

  /** After `letNobodyIn`: nothing of the firmware is under way any more. */
  ended(): void {
    if (this.#isEnding) this.#parts.front.settle(this.#parts.part);
    this.#isEnding = false;
  }

  /** Groups that the partner serves; null: it serves none, or has not said. */
  get theirGroups(): readonly string[] | null {
    return this.#partner?.directory.groups ?? null;
  }

  /** Tells the partner's front ends of hosts and volumes, when something has changed. */
  tellDirectory(): void {
    if (this.#own === null) return;
    const directory = JSON.stringify(this.#own.directory());
    if (directory === this.#told) return;
    this.#told = directory;
    const { sendText, events, partner } = this.#parts;
    const bytes = new TextEncoder().encode(directory);
    if (sendText({ kind: "directory" }, bytes, pairLimits.directoryBytesMax)) return;
    const text = `what there is of hosts and volumes is larger than ${partner} takes in its version: its own ports do not show what is new`;
    events.emit("directory-too-large", text, { bytes: bytes.byteLength });
  }

  /** The partner's role may be another. */
  look(): void {
    const { clock, front, part, send, partnerOwns } = this.#parts;
    if (!partnerOwns()) return this.leavePartner();
    if (this.#partner !== null || this.#theirDirectory === null) return;
    this.#partner = new PartnerSeat(clock, send, this.#theirDirectory);
    front.take(part, this.#partner);
  }

  /** The target port groups of both appliances, as the owner sees them; `forwards`: the partner brings hosts' commands here. */
  portGroups(forwards: boolean): readonly TargetPortGroup[] {
    const { appliance, partner, ownPorts } = this.#parts;
    const iscsi = ownPorts.filter(({ protocol }) => protocol === "iscsi");
    return portGroupsOf({
      appliance,
      partner,
      ownPorts: iscsi.filter(({ movesWithOwner }) => !movesWithOwner).length,
      movingPorts: iscsi.filter(({ movesWithOwner }) => movesWithOwner).length,
      partnerPorts: this.partnerPortals().length,
      forwards,
    });
  }

  /** Those that stay with the partner. */
  partnerPortals(): readonly IscsiPortal[] {
    const moves = (portal: string) =>
      this.#parts.ownPorts.some((port) => port.movesWithOwner && port.address === portal);
    const { portalGroup } = portPlaceOf(this.#parts.partner, this.#parts.appliance);
    return this.#partnerPorts
      .filter(({ protocol, address }) => protocol === "iscsi" && !moves(address))
      .map(({ address }) => ({ address, portalGroup }));
  }

  met(portals: readonly Portal[]): void {
    this.#partnerPorts = portals;
    // What was told while apart has not been heard.
    this.#told = "";
    this.tellDirectory();
  }

  /** The partner is lost, and its hosts' sessions with it. */
  lost(): void {
    this.#theirDirectory = null;
    this.#arriving.clear();
    this.#told = "";
    this.leavePartner();
    this.#forwarded.end();
    this.#forwarded = new Forwarded(this.#parts.clock, this.#parts.send);
    this.#forwarded.seat = this.#own;
  }

  /** The partner serves no more. */
  leavePartner(): void {
    if (this.#partner === null) return;
    const { front, part, keepAsked } = this.#parts;
    this.#partner.device.end();
    this.#partner = null;
    // A record that has begun goes to its end: what follows it in this session is to be understood.
    keepAsked();
    front.leave(part);
    front.settle(part);
  }

  #heard(directory: ReturnType<ArrivingText["add"]>): string | null {
    if (directory === "more") return null;
    this.#theirDirectory = directory === "too-long" ? null : parseDirectory(directory.text);
    if (this.#theirDirectory === null) return "a directory that is none";
    if (this.#partner !== null) this.#partner.directory = this.#theirDirectory;
    else this.look();
    return null;
  }

  /** A text: the message cannot be, and nothing after it can be understood. */
  onMessage(message: PairMessage, payload: Uint8Array): string | null {
    switch (message.kind) {
      case "directory":
        return this.#heard(this.#arriving.add(payload, message.more));
      case "openNexus":
        this.#forwarded.openNexus(message, payload);
        return null;
      case "openVolume":
        this.#forwarded.openVolume(message);
        return null;
      case "close":
        this.#forwarded.close(message.channel);
        return null;
      case "ask":
        return this.#forwarded.onAsk(payload);
      case "told":
        return this.#partner?.device.onTold(payload) ?? null;
      default:
        return null;
    }
  }
}
