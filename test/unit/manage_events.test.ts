import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type EventJson, EventLog, encodeEventLine, ringEventsMax } from "../../firmware/manage/events.ts";
import { ManualClock } from "./fake_control.ts";

const test = suite("manage_events");

test("event emitted -> one JSON line with number, time, code, text and fields", () => {
  const lines: string[] = [];
  const log = new EventLog(new ManualClock(), (event) => lines.push(encodeEventLine(event)));
  log.emit("group-opened", 'group "demo"\nopened', { seq: 4, peer: null });
  assert.is(lines.length, 1);
  assert.is(lines[0]!.indexOf("\n"), lines[0]!.length - 1);
  assert.equal(JSON.parse(lines[0]!), {
    number: 1,
    at: "2026-11-21T03:04:05.678Z",
    code: "group-opened",
    text: 'group "demo"\nopened',
    fields: { seq: 4, peer: null },
  });
});

test("times over the whole calendar -> the same as Date writes them", () => {
  const clock = new ManualClock();
  let at = 0;
  clock.wallMs = () => at;
  const seen: EventJson[] = [];
  const log = new EventLog(clock, (event) => seen.push(event));
  for (at = 0; at < 5e12; at += 86_399_999 * 37) {
    log.emit("tick", "");
    assert.is(seen.at(-1)!.at, new Date(at).toISOString());
  }
  for (const odd of [Number.NaN, -5, Number.POSITIVE_INFINITY]) {
    at = odd;
    log.emit("tick", "");
  }
  assert.is(seen.at(-2)!.at, "1970-01-01T00:00:00.000Z");
});

test("more events than the ring holds -> the newest stay, numbers have no gaps", () => {
  const log = new EventLog(new ManualClock(), () => {});
  for (let i = 0; i < ringEventsMax + 10; i++) log.emit("tick", String(i));
  const kept = log.since(0);
  assert.is(kept.length, ringEventsMax);
  assert.is(kept[0]!.number, 11);
  assert.is(kept.at(-1)!.number, ringEventsMax + 10);
  assert.equal(
    log.since(0, 2).map((event) => event.number),
    [ringEventsMax + 9, ringEventsMax + 10],
  );
  assert.equal(log.since(ringEventsMax + 10), []);
});

test("endless text and fields -> clipped", () => {
  const log = new EventLog(new ManualClock(), () => {});
  log.emit("session-refused", "x".repeat(1e6), { name: "y".repeat(1e6) });
  assert.ok(encodeEventLine(log.since(0)[0]!).length < 10_000);
});

test("waiter that gave up -> is not called", () => {
  const log = new EventLog(new ManualClock(), () => {});
  let calls = 0;
  const giveUp = log.whenAppended(() => calls++);
  log.whenAppended(() => calls++);
  giveUp();
  log.emit("a", "");
  log.emit("b", "");
  assert.is(calls, 1);
});

test.run();
