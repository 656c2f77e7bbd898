/** The read lease: it holds from before a count was sent for less than the limit, and only what is owned needs one. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ReadLease } from "../../firmware/pair/read_lease.ts";
import { ManualClock } from "./support/manual_clock.ts";

const test = suite("pair_read_lease");
const limitMs = 1000;

function begin(): { clock: ManualClock; lease: ReadLease } {
  const clock = new ManualClock();
  return { clock, lease: new ReadLease(clock, limitMs, 2) };
}

test("nothing is owned -> it holds; a half that is owned needs a count of its own", () => {
  const { clock, lease } = begin();
  assert.ok(lease.holds);
  lease.need(0, true);
  assert.not(lease.holds);
  lease.renew(1, clock.nowMs());
  assert.not(lease.holds, "the other half's count");
  lease.renew(0, clock.nowMs());
  assert.ok(lease.holds);
  lease.need(1, true);
  assert.ok(lease.holds);
});

test("a count -> good for less than the limit, from when it was sent; a late answer about an older one shortens nothing", () => {
  const { clock, lease } = begin();
  lease.need(0, true);
  const sentMs = clock.nowMs();
  clock.pass(400);
  lease.renew(0, sentMs);
  clock.pass(499);
  assert.ok(lease.holds);
  clock.pass(2);
  assert.not(lease.holds, "0.9 of the limit after it was sent");
  lease.renew(0, clock.nowMs());
  lease.renew(0, sentMs);
  assert.ok(lease.holds);
});

test("the halves end at different times -> the earliest counts, until that half is not owned any more", () => {
  const { clock, lease } = begin();
  lease.need(0, true);
  lease.need(1, true);
  lease.renew(0, clock.nowMs());
  clock.pass(500);
  lease.renew(1, clock.nowMs());
  clock.pass(500);
  assert.not(lease.holds);
  lease.need(0, false);
  assert.ok(lease.holds);
});

test("who waits -> is called once when it holds again, unless forgotten; after the end never", () => {
  const { clock, lease } = begin();
  const called: string[] = [];
  const first = () => called.push("first");
  const second = () => called.push("second");
  lease.need(0, true);
  lease.await(first);
  lease.await(first);
  lease.await(second);
  lease.forget(second);
  assert.equal(called, []);
  lease.renew(0, clock.nowMs());
  assert.equal(called, ["first"]);
  lease.renew(0, clock.nowMs());
  assert.equal(called, ["first"]);
  lease.revoke();
  assert.not(lease.holds);
  lease.await(first);
  lease.renew(0, clock.nowMs());
  lease.need(0, false);
  assert.not(lease.holds);
  assert.equal(called, ["first"]);
});

test.run();
