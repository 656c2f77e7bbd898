/**
 * An operator at work: commands at random moments, sensible and not, and what their answers promise.
 *
 * - L2: a migrate loses nothing; answered with success, the role has moved.
 * - L3: a takeover is refused while the primary is reachable, and on a mixture; its report is true: the fork point is where the new
 *   timeline begins, and `loss: none` means that nothing acknowledged is missing.
 * - L4, L5: what a resync discards is kept aside (judged by the oracle when the log is emptied).
 */
import type { Control, Result, TakeoverJson } from "../../firmware/manage/control.ts";
import { eventKind } from "../../hal/mock/event_heap.ts";
import type { Prng } from "../../hal/mock/prng.ts";
import { statusOf } from "./heal.ts";
import type { Timeline } from "./history.ts";
import { groupName, type SimArray } from "./sim_array.ts";
import type { Site } from "./site.ts";
import type { Watch } from "./watch.ts";

/** A link without a byte for so long is lost; twice that is beyond doubt. */
const beyondDoubtMs = 2000;

/** A heartbeat, the time it is under way, and the time that a takeover itself takes. */
const lostMsTolerance = 1500;

type Command = "migrate" | "takeover" | "serve" | "resync" | "mode" | "verify" | "failback" | "stop";

export class Operator {
  readonly #site: Site;
  readonly #watch: Watch;
  readonly #prng: Prng;
  #meanMs = 0;
  #working = false;
  /** Timelines that a takeover has opened with the word that nothing is lost. */
  readonly #claims: Timeline[] = [];
  commands = 0;
  /** No fault strikes a clock or stops a process in this run. */
  clocksAreTrue = true;

  constructor(site: Site, watch: Watch) {
    this.#site = site;
    this.#watch = watch;
    this.#prng = site.world.prng("operator");
  }

  /** Commands come every `meanMs` on average; 0: none. */
  begin(meanMs: number): void {
    this.#meanMs = meanMs;
    if (meanMs > 0) this.#schedule();
  }

  end(): void {
    this.#meanMs = 0;
  }

  /** Mostly the operator takes over at once. */
  hearDisaster(survivor: SimArray): void {
    if (!this.#prng.chance(0.6)) return;
    this.#site.world.schedule(this.#prng.between(0, 400), eventKind.host, null, () => {
      void this.issue(survivor, "takeover");
    });
  }

  #schedule(): void {
    this.#site.world.schedule(this.#prng.exponential(this.#meanMs), eventKind.host, null, () => {
      if (this.#meanMs === 0) return;
      this.#act();
      this.#schedule();
    });
  }

  #act(): void {
    const array = this.#prng.pick(this.#site.arrays);
    const command = this.#choose(array);
    const twoAtOnce = this.#prng.chance(0.1);
    if (command === null || (this.#working && !twoAtOnce)) return;
    this.issue(array, command);
  }

  #choose(array: SimArray): Command | null {
    const status = statusOf(array);
    if (status === null) return null;
    const other = statusOf(this.#site.other(array));
    const roll = this.#prng.unit();
    if (roll < 0.08) return "stop";
    // Now and then a command that makes no sense here: it must be refused, or do nothing.
    if (roll < 0.22) return this.#prng.pick(["migrate", "takeover", "serve", "resync", "verify", "failback"] as const);
    if (status.writable) return this.#prng.pick(["migrate", "migrate", "mode", "verify"] as const);
    if (status.role === "golden") {
      const needed = other === null || !other.writable;
      return needed && this.#prng.chance(0.8) ? "takeover" : null;
    }
    if (other?.writable === true) return this.#prng.pick(["resync", "failback"] as const);
    return status.state !== "inconsistent" && this.#prng.chance(0.4) ? "serve" : null;
  }

  /** Gives a command; what its answer promises is judged when it comes. */
  issue(array: SimArray, command: Command): Promise<void> {
    const boot = array.live;
    // To serve a mixture is the operator's right, but then nothing could be checked any more.
    if (boot === null || (command === "serve" && statusOf(array)?.state === "inconsistent")) return Promise.resolve();
    this.commands++;
    this.#working = true;
    this.#site.chronicle.note(array.name, `command ${command}`);
    const { control } = boot.running!;
    return this.#run(array, control, command).then(
      (answer) => {
        this.#working = false;
        if (boot.alive()) this.#site.chronicle.note(array.name, `command ${command}: ${answer}`);
      },
      (error) => {
        this.#working = false;
        if (boot.alive()) this.#site.panicked(array, error);
      },
    );
  }

  #run(array: SimArray, control: Control, command: Command): Promise<string> {
    const other = this.#site.other(array);
    const prng = this.#prng;
    const { groups } = control;
    const timeoutMs = prng.pick([500, 3000, 20_000]);
    switch (command) {
      case "migrate":
        return this.#migrate(array, control, timeoutMs);
      case "takeover":
        return this.#takeOver(array, control);
      case "serve":
        this.#site.forkLicences.add(array.name);
        return groups.serveAlone(groupName, { timeoutMs }).then(answerOf);
      case "resync":
        return groups.resync(groupName, { from: other.name, timeoutMs }).then(answerOf);
      case "failback":
        return groups.failback(groupName, { timeoutMs }).then(answerOf);
      case "verify":
        return this.#verify(array, control);
      case "mode": {
        const mode = prng.pick(["sync", "async"] as const);
        return groups.setMode(groupName, { array: other.name, mode, cycleMs: null }).then(answerOf);
      }
      case "stop":
        return this.#stop(array, control);
    }
  }

  async #migrate(array: SimArray, control: Control, timeoutMs: number): Promise<string> {
    const other = this.#site.other(array);
    const result = await control.groups.migrate(groupName, { to: other.name, timeoutMs });
    if (result.ok && result.value.changed && result.value.primary !== other.name) {
      this.#site.chronicle.fail("L2", `a migrate to ${other.name} was answered with primary ${result.value.primary}`);
    }
    return answerOf(result);
  }

  async #verify(array: SimArray, control: Control): Promise<string> {
    const result = await control.groups.verify(groupName, { peer: null, timeoutMs: 30_000 });
    if (result.ok && !result.value.equal) {
      this.#site.chronicle.fail("R4", `a verify at ${array.name} found a difference`, [JSON.stringify(result.value)]);
    }
    return answerOf(result);
  }

  async #takeOver(array: SimArray, control: Control): Promise<string> {
    const { forkLicences, world } = this.#site;
    const boot = array.live!;
    const isMixture = () => statusOf(array)?.state === "inconsistent" || statusOf(array)?.state === "resyncing";
    const fork = this.#prng.chance(isMixture() ? 0.7 : 0.1);
    // A mixture promoted by force is no image of the group: nothing could be checked any more.
    const force = !isMixture() && this.#prng.chance(0.1);
    const hadLicence = forkLicences.has(array.name);
    const mixtureAtIssue = isMixture();
    forkLicences.add(array.name);
    const mayForgetAlready = this.#site.forgetLicences.has(array.name);
    if (fork) this.#site.forgetLicences.add(array.name);
    const openedBefore = this.#site.oracle.opened.get(array.name);
    const result = await control.groups.takeover(groupName, { force, fork, timeoutMs: 20_000 });
    if (!boot.alive()) return "died";
    if (fork && !mayForgetAlready) this.#site.forgetLicences.delete(array.name);
    if (!result.ok || !result.value.changed) {
      const opened = this.#site.oracle.opened.get(array.name) !== openedBefore;
      if (!hadLicence && !opened) forkLicences.delete(array.name);
      return answerOf(result);
    }
    const { reachableSinceMs } = this.#watch;
    if (!force && reachableSinceMs !== null && world.nowMs - reachableSinceMs > beyondDoubtMs) {
      this.#site.chronicle.fail("L3", `${array.name} took over while the primary was reachable`);
    }
    if (mixtureAtIssue && !fork && !force && isMixture()) {
      this.#site.chronicle.fail("L3", `${array.name} promoted a mixture without force`);
    }
    this.#judgeReport(array, result.value);
    return answerOf(result);
  }

  #judgeReport(array: SimArray, report: TakeoverJson): void {
    const { oracle, chronicle } = this.#site;
    const timeline = oracle.history.timeline(report.timeline);
    if (timeline === undefined || timeline.opener !== array.name || timeline.forkSeq !== report.forkSeq) {
      chronicle.fail("L3", `${array.name} reports a takeover that did not happen so`, [
        JSON.stringify(report),
        `opened: ${timeline === undefined ? "unknown" : `by ${timeline.opener}, behind ${timeline.forkSeq}`}`,
      ]);
      return;
    }
    if (report.loss === "none") {
      this.#claims.push(timeline);
      this.judgeClaims();
    } else this.#judgeLostMs(timeline, report);
  }

  /** L3: a time within which writes may be lost covers those that are. Clocks that jump or stand still excuse it. */
  #judgeLostMs(timeline: Timeline, { maybeLostMs }: TakeoverJson): void {
    if (maybeLostMs === null || !this.clocksAreTrue) return;
    const { oracle, chronicle } = this.#site;
    const lost = oracle.losses.find((loss) => loss.timeline === timeline)?.lostCommands ?? [];
    const oldest = lost.reduce((first, { ackedMs }) => Math.min(first, ackedMs!), Number.POSITIVE_INFINITY);
    if (timeline.openedMs - oldest <= maybeLostMs + lostMsTolerance) return;
    chronicle.fail("L3", `${timeline.opener} reports a loss of at most ${maybeLostMs} ms`, [
      `a write acknowledged ${(timeline.openedMs - oldest).toFixed(0)} ms before is lost; ${lost.length} are`,
    ]);
  }

  /** D4: a takeover that claimed zero loss has lost nothing, also in the light of what came out later. */
  judgeClaims(): void {
    for (const timeline of this.#claims) {
      const beyond = timeline.parent!.records.filter((record) => record.seq > timeline.forkSeq);
      const lost = beyond.find((record) => record.command !== null && record.command.ackedMs !== null);
      if (lost === undefined) continue;
      this.#site.chronicle.fail("D4", `a takeover on ${timeline.opener} claimed that nothing is lost`, [
        `it began behind ${timeline.forkSeq}; record ${lost.seq} was acknowledged at ${lost.command!.ackedMs} ms`,
      ]);
    }
  }

  async #stop(array: SimArray, control: Control): Promise<string> {
    const { machine } = array;
    const { bootCount } = machine.appliance;
    const { pairAppliance } = machine;
    if (pairAppliance !== null) {
      // The partner has the array, where it can; the process ends.
      await pairAppliance.stop();
      if (machine.appliance.bootCount === bootCount) machine.appliance.crash();
      return "stopped";
    }
    await control.stop();
    if (array.live?.running?.control === control) array.appliance.crash();
    // An orderly stop is the one reason for which a takeover may say that nothing is lost.
    if (this.#meanMs > 0 && this.#prng.chance(0.5)) {
      this.#site.world.schedule(this.#prng.between(0, 1500), eventKind.host, null, () => {
        void this.issue(this.#site.other(array), "takeover");
      });
    }
    return "stopped";
  }
}

function answerOf(result: Result<unknown>): string {
  return result.ok ? JSON.stringify(result.value) : `${result.error.code}: ${result.error.text}`;
}
