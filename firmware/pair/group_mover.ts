/**
 * Moves a group from one half of the array to the other, with hosts waiting for a moment and nothing copied; and settles moves that a
 * crash has interrupted.
 *
 *     prepare (the shelf has all; hosts go on, and get a moment to be answered) ─▶ hold (hosts' commands wait, at both appliances)
 *        ─▶ begin ─▶ the other half adopts ─▶ end ─▶ release     any refusal: cancel, or nothing yet to cancel ─▶ release
 *
 * Invariants:
 * - From `begin` on the group is opened by nobody until the other half's claims are known: the higher claim has it.
 * - Hosts' commands are released when it is known where the group is, or when the half has ended here: from then on they wait for whoever
 *   has it next, and finds that out before it lets them in.
 * - A group is taken back in the moment in which the other half's owner says that it has not got it: whoever owns that half next sees the
 *   higher claim, and opens nothing that its disks may name with the lower one (`manage/moved_on.ts`).
 * - What a move has under way is its own to settle.
 * - An end of the half's firmware here, at any step, ends what goes on here: nothing that was asked of it comes to an end by itself.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { ApiAnswer } from "../manage/api.ts";
import type { VolumeNames } from "../manage/belongings.ts";
import { type Result, refused } from "../manage/control.ts";
import type { EventSink } from "../manage/events.ts";
import type { Tenure } from "../manage/tenure.ts";
import type { GroupClaim } from "../store/store.ts";
import { claimsIn } from "./half_calls.ts";
import { type HalfNumber, pairLimits } from "./limits.ts";
import type { Engine } from "./partnership_options.ts";

export interface GroupMoverParts {
  readonly clock: Clock;
  readonly events: EventSink;
  readonly half: HalfNumber;
  /** Of this half; null: not owned here. */
  engine(): Engine | null;
  readonly tenure: Tenure;
  /** Asks the owner of the other half; null: it is not known or not reached. */
  askOther(path: string, body: object): Promise<ApiAnswer> | null;
  /** Tells the front ends of both appliances. */
  hold(uuids: readonly string[], isHeld: boolean): Promise<void>;
}

const elsewhere = refused("busy", "the half has another owner now; ask again in a moment");

export class GroupMover {
  readonly #parts: GroupMoverParts;
  #moving = false;
  #settling = false;
  /** What the move under way has made hosts wait for. */
  #held: readonly string[] = [];
  /** Groups that are leaving, by their id; their hosts wait. */
  readonly #leaving = new Map<string, VolumeNames>();

  constructor(parts: GroupMoverParts) {
    this.#parts = parts;
  }

  async move(name: string, timeoutMs: number): Promise<Result<null>> {
    const engine = this.#parts.engine();
    if (engine === null) return refused("busy", "the group's owner is just changing; ask again in a moment");
    if (this.#moving) return refused("busy", "another group is being moved; wait for its end");
    this.#moving = true;
    try {
      return await this.#parts.tenure.orOver(this.#move(engine, name, timeoutMs), () => elsewhere);
    } finally {
      this.#moving = false;
    }
  }

  /** The half's firmware has ended here, wherever a group was on its way. */
  engineEnded(): void {
    const waiting = [...this.#leaving.values()].flatMap(({ uuids }) => uuids);
    const held = [...new Set([...this.#held, ...waiting])];
    this.#held = [];
    this.#leaving.clear();
    if (held.length > 0) void this.#parts.hold(held, false);
  }

  async #release(): Promise<void> {
    const held = this.#held;
    this.#held = [];
    if (held.length > 0) await this.#parts.hold(held, false);
  }

  /** Whether nothing of theirs is under way any more; false: not within `holdQuietMs`. */
  #hold(uuids: readonly string[]): Promise<boolean> {
    const { clock, hold } = this.#parts;
    this.#held = uuids;
    const isLate = new Promise<boolean>((resolve) => clock.after(pairLimits.holdQuietMs, () => resolve(false)));
    return Promise.race([hold(uuids, true).then(() => true), isLate]);
  }

  async #move(engine: Engine, name: string, timeoutMs: number): Promise<Result<null>> {
    const { events, clock, askOther } = this.#parts;
    const { transfers } = engine;
    // Once it is not, `engineEnded` has seen to everything.
    const isCurrent = () => this.#parts.engine() === engine;
    if (askOther("/half/claims", {}) === null)
      return refused("not-connected", "the owner of the other half is not reached; see: goldcopy pair status");
    const prepared = await transfers.prepare(name, timeoutMs);
    if (!prepared.ok) return prepared;
    await new Promise<void>((resolve) => clock.after(pairLimits.breathMs, resolve));
    if (!isCurrent()) return elsewhere;
    const startedMs = clock.nowMs();
    let isKnown = true;
    try {
      const isQuiet = await this.#hold(prepared.value);
      if (!isCurrent()) return elsewhere;
      if (!isQuiet) {
        transfers.abandon(name);
        const text = `what hosts had asked of group ${name} did not end in ${pairLimits.holdQuietMs} ms; it stays where it is`;
        return refused("not-drained", text);
      }
      const begun = await transfers.begin(name);
      if (!begun.ok) {
        transfers.abandon(name);
        return begun;
      }
      const { id, transfer } = begun.value;
      this.#leaving.set(id, { volumes: transfer.volumes, uuids: prepared.value });
      const answer = await askOther("/half/adopt", transfer);
      if (!isCurrent()) return elsewhere;
      if (answer?.status === 200) {
        const ended = await transfers.end(id, transfer);
        const heldMs = Math.round(clock.nowMs() - startedMs);
        this.#leaving.delete(id);
        events.emit("group-moved", `group ${name} is served by the partner; its hosts waited ${heldMs} ms`, {
          group: name,
          heldMs,
        });
        return ended;
      }
      // Whether it has the group is what its claims say.
      isKnown = false;
      this.#held = [];
      await this.#settleOnce(engine, true);
      const error = (answer?.body as { error?: { text?: string } } | undefined)?.error?.text ?? "it was lost meanwhile";
      const isHere = engine.groups.find(name) !== null;
      const what = isHere ? "stays where it is" : "is opened when it is known which half has it";
      return refused("failed", `the other half has not taken group ${name}, which ${what}: ${error}`);
    } finally {
      if (isKnown && isCurrent()) await this.#release();
    }
  }

  /**
   * Finds out where groups are that were on their way when something broke. Called now and then, and for an engine that has just
   * started before hosts are let in.
   */
  async settle(engine = this.#parts.engine()): Promise<void> {
    if (engine !== null) await this.#settleOnce(engine, false);
  }

  async #settleOnce(engine: Engine, isOfMove: boolean): Promise<void> {
    if (this.#settling) return;
    this.#settling = true;
    try {
      await this.#parts.tenure.orOver(this.#settle(engine, isOfMove), () => {});
    } finally {
      this.#settling = false;
    }
  }

  async #settle(engine: Engine, isOfMove: boolean): Promise<void> {
    await engine.transfers.openClosed();
    if (this.#moving && !isOfMove) return;
    for (const claim of engine.transfers.claims().filter(({ leaving }) => leaving)) {
      const { id } = claim;
      const names = this.#leaving.get(id) ?? { volumes: [], uuids: [] };
      let isTheirs = await this.#isTheirs(claim);
      if (isTheirs === false) {
        await this.#parts.askOther("/half/forget", names);
        // Much may have come about over there: it is taken back on the answer, and not later.
        isTheirs = await this.#isTheirs(claim);
      }
      if (isTheirs === null) return;
      if (isTheirs) await engine.transfers.end(id, names);
      else {
        const back = await engine.transfers.cancel(id);
        if (!back.ok)
          this.#parts.events.emit("group-move-trouble", `group ${id} could not be taken back: ${back.error.text}`);
      }
      this.#leaving.delete(id);
      await this.#parts.hold(names.uuids, false);
    }
  }

  /** Whether the other half has the group, by the higher claim; null: its owner does not answer. */
  async #isTheirs({ id, claim }: GroupClaim): Promise<boolean | null> {
    const claims = claimsIn(await this.#parts.askOther("/half/claims", {}));
    return claims?.groups.some((other) => other.id === id && other.claim > claim) ?? null;
  }

  /** For whoever calls `settle` in turn. */
  get isMoving(): boolean {
    return this.#moving;
  }
}

export const settleEveryMs = pairLimits.retryMs;
