/**
 * Keeps trying to connect to one peer array, over every NIC and address in turn, for ever.
 *
 *   resting ──wait over──▶ trying ──an address answers──▶ introducing (hello sent) ──hello──▶ handed over ──▶ stopped
 *      ▲                     │ the next address is tried beside a slow one           │ refused, lost, silent
 *      └──── wait, doubled ──┴─────────────────── all have failed ──────────────────┘
 *
 * Invariants: at most `attemptsMax` connections are under way; the first that answers is used, any other is closed at once; waits are bounded and
 * jittered by the appliance's entropy.
 */
import type { Clock, Timer } from "../../hal/api/clock.ts";
import type { Entropy } from "../../hal/api/entropy.ts";
import type { Nic } from "../../hal/api/nic.ts";
import type { Frame, Hello } from "./frame.ts";
import { linkLimits, type ReplicationSettings } from "./limits.ts";
import { Link } from "./link.ts";

export interface DialOwner {
  /** What to say first; null: not now. */
  hello(): Hello | null;
  /** The other side has answered. False: its answer is not acceptable. */
  answered(link: Link, theirs: Hello): boolean;
  /** A refusal, or a fault worth knowing. */
  refused(code: string, text: string): void;
}

interface Route {
  readonly nic: Nic;
  readonly address: string;
}

export class Dialler {
  readonly #clock: Clock;
  readonly #entropy: Entropy;
  readonly #settings: ReplicationSettings;
  readonly #owner: DialOwner;
  readonly #routes: readonly Route[];
  #routeAt = 0;
  #waitMs: number;
  #timer: Timer | null = null;
  #state: "stopped" | "resting" | "trying" | "introducing" = "stopped";
  /** Attempts of an older round must not count for this one. */
  #round = 0;
  #underWay = 0;
  #triedThisRound = 0;
  #introduced: Link | null = null;

  constructor(
    hal: { readonly clock: Clock; readonly entropy: Entropy; readonly nics: readonly Nic[] },
    settings: ReplicationSettings,
    addresses: readonly string[],
    owner: DialOwner,
  ) {
    this.#clock = hal.clock;
    this.#entropy = hal.entropy;
    this.#settings = settings;
    this.#owner = owner;
    this.#waitMs = settings.dialWaitMsMin;
    // NIC 1 to address 1, NIC 2 to address 2, then the crossed ones: parallel networks answer at once.
    const count = hal.nics.length * addresses.length;
    this.#routes = Array.from({ length: count }, (_, index) => {
      const turn = Math.floor(index / addresses.length);
      return { nic: hal.nics[(index + turn) % hal.nics.length]!, address: addresses[index % addresses.length]! };
    });
  }

  get running(): boolean {
    return this.#state !== "stopped";
  }

  start(): void {
    if (this.#state !== "stopped" || this.#routes.length === 0) return;
    this.#waitMs = this.#settings.dialWaitMsMin;
    this.#tryNext();
  }

  /** Tries at once, whatever wait is running. */
  hurry(): void {
    if (this.#state === "stopped") this.start();
    else if (this.#state === "resting") this.#tryNext();
  }

  stop(): void {
    this.#state = "stopped";
    this.#round++;
    this.#timer?.cancel();
    this.#timer = null;
    const introduced = this.#introduced;
    this.#introduced = null;
    introduced?.abort("aborted", "not needed any more");
  }

  #tryNext(): void {
    if (this.#state !== "trying") {
      this.#state = "trying";
      this.#round++;
      this.#triedThisRound = 0;
    }
    this.#timer?.cancel();
    if (this.#triedThisRound >= this.#routes.length) {
      // Slow ones get the rest of their time; then all of it begins anew.
      this.#timer = this.#clock.after(this.#settings.peerTimeoutMs, () => this.#rest());
      return;
    }
    this.#triedThisRound++;
    const route = this.#routes[this.#routeAt++ % this.#routes.length]!;
    if (this.#underWay < linkLimits.attemptsMax) this.#attempt(route);
    this.#timer = this.#clock.after(this.#settings.dialStaggerMs, () => this.#tryNext());
  }

  #attempt(route: Route): void {
    const round = this.#round;
    this.#underWay++;
    route.nic.connect(
      route.address,
      (stream) => {
        this.#underWay--;
        const link = new Link(stream, true, this.#clock, this.#settings);
        // One of an earlier round is as good as any (a link that was cut, and is joined again).
        if (this.#state === "trying" || this.#state === "resting") this.#introduce(link);
        else this.#clock.defer(() => link.abort("aborted", "another connection came first"));
        return link.handler;
      },
      () => {
        this.#underWay--;
        if (this.#state !== "trying" || round !== this.#round) return;
        if (this.#triedThisRound >= this.#routes.length) this.#rest();
        else this.#tryNext();
      },
    );
  }

  #introduce(link: Link): void {
    this.#timer?.cancel();
    this.#state = "introducing";
    this.#introduced = link;
    link.owner = {
      onFrame: (frame) => this.#onAnswer(link, frame),
      onLost: (reason, text) => this.#failed(link, reason === "malformed" ? text : null),
      onBeat: () => {},
    };
    // The stream may be used once its handler is known to it.
    this.#clock.defer(() => {
      if (this.#introduced !== link) return;
      const hello = this.#owner.hello();
      if (hello === null) link.abort("aborted", "nothing to say now");
      else link.send(hello);
    });
  }

  #onAnswer(link: Link, frame: Frame): void {
    if (this.#introduced !== link) return;
    if (frame.kind === "refuse") {
      if (frame.code !== "duplicate" && frame.code !== "busy") this.#owner.refused(frame.code, frame.text);
      link.abort("aborted", frame.text);
      return;
    }
    if (frame.kind !== "hello") {
      this.#owner.refused("protocol", `${frame.kind} where a hello was expected`);
      link.abort("aborted", "not a hello");
      return;
    }
    this.#introduced = null;
    this.#state = "stopped";
    this.#round++;
    if (this.#owner.answered(link, frame)) return;
    link.abort("aborted", "the answer was not acceptable");
    if (!this.running) this.#rest();
  }

  #failed(link: Link, fault: string | null): void {
    if (this.#introduced !== link) return;
    this.#introduced = null;
    if (fault !== null) this.#owner.refused("malformed", fault);
    this.#rest();
  }

  #rest(): void {
    this.#state = "resting";
    this.#round++;
    this.#timer?.cancel();
    const [random] = this.#entropy.fill(new Uint8Array(1));
    const jitter = 0.75 + (0.5 * (random ?? 0)) / 255;
    this.#timer = this.#clock.after(this.#waitMs * jitter, () => this.#tryNext());
    this.#waitMs = Math.min(2 * this.#waitMs, this.#settings.dialWaitMsMax);
  }
}
