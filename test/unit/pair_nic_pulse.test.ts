/** What one NIC tells of the partner: the table of `nic_pulse.ts`, line by line. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { NicPulse } from "../../firmware/pair/nic_pulse.ts";

const test = suite("pair_nic_pulse");
const times = { heartbeatMs: 50, limitMs: 250, hungMs: 1000 };

/** Looks every heartbeat for `forMs`; the first verdict that is not well, and when, or "well". */
function judged(
  forMs: number,
  partner: (nowMs: number) => { lastByteMs: number | null; silentMs: number; stillMs: number },
): string {
  const pulse = new NicPulse(times, 0);
  for (let nowMs = times.heartbeatMs; nowMs <= forMs; nowMs += times.heartbeatMs) {
    const { lastByteMs, silentMs, stillMs } = partner(nowMs);
    const { kind } = pulse.look(nowMs, lastByteMs, { silentMs, stillMs, turns: 0, trouble: null });
    if (kind !== "well") return `${kind} at ${nowMs}`;
  }
  return "well";
}

test("beats and bytes come -> well", () => {
  assert.is(
    judged(60_000, (nowMs) => ({ lastByteMs: nowMs, silentMs: 10, stillMs: 20 })),
    "well",
  );
});

test("the loop is late, for longer than the limit -> well", () => {
  assert.is(
    judged(900, (nowMs) => ({ lastByteMs: 1, silentMs: 10, stillMs: nowMs })),
    "well",
  );
});

test("it is late again and again, and bytes come in between -> well", () => {
  const late = (nowMs: number) => ({ lastByteMs: nowMs - (nowMs % 900), silentMs: 10, stillMs: nowMs % 900 });
  assert.is(judged(60_000, late), "well");
});

test("the loop hangs, whatever else comes -> hung, at its limit", () => {
  assert.is(
    judged(5000, (nowMs) => ({ lastByteMs: 1, silentMs: 10, stillMs: nowMs })),
    "hung at 1000",
  );
  assert.is(
    judged(5000, (nowMs) => ({ lastByteMs: nowMs, silentMs: 10, stillMs: nowMs })),
    "hung at 1000",
  );
  assert.is(
    judged(5000, (nowMs) => ({ lastByteMs: null, silentMs: 10, stillMs: nowMs })),
    "hung at 1000",
  );
});

test("the loop turns and nothing comes over the connection -> silent, at the limit", () => {
  assert.is(
    judged(5000, () => ({ lastByteMs: 1, silentMs: 10, stillMs: 20 })),
    "silent at 300",
  );
});

test("neither beats nor bytes -> silent, at the limit", () => {
  assert.is(
    judged(5000, (nowMs) => ({ lastByteMs: 1, silentMs: nowMs, stillMs: 20 })),
    "silent at 300",
  );
});

test("no beats, and bytes -> well", () => {
  assert.is(
    judged(60_000, (nowMs) => ({ lastByteMs: nowMs, silentMs: nowMs, stillMs: 0 })),
    "well",
  );
});

test("no beats, and the last of them told of a hung loop -> silent, and not hung", () => {
  const partner = (nowMs: number) => ({ lastByteMs: 1, silentMs: nowMs, stillMs: nowMs < 300 ? 0 : 5000 });
  assert.is(judged(5000, partner), "silent at 300");
});

test("there is no connection -> well, for as long as the loop does not hang", () => {
  assert.is(
    judged(60_000, (nowMs) => ({ lastByteMs: null, silentMs: nowMs, stillMs: 0 })),
    "well",
  );
});

test("this side was stopped for long itself -> what had arrived meanwhile is read before anything is judged", () => {
  const pulse = new NicPulse(times, 0);
  const none = { turns: 0, trouble: null };
  const before = pulse.look(50, 50, { ...none, silentMs: 0, stillMs: 0 });
  // The worker's own cap: two heartbeats.
  const onWaking = pulse.look(30_050, 50, { ...none, silentMs: 100, stillMs: 0 });
  const next = pulse.look(30_100, 30_060, { ...none, silentMs: 0, stillMs: 0 });
  assert.equal([before.kind, onWaking.kind, next.kind], ["well", "well", "well"]);
});

test.run();
