import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Lab, type Site } from "./support/replication_site.ts";

const test = suite("roles_migrate");

test("migrate under writes -> the role moves, nothing is lost, the old primary follows", () => {
  const lab = Lab.pair(1);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let block = 0; block < 30; block++) oak.submit(block, 1 + block);
  const moved = lab.done("migrate", oak.commands.migrate("elm", 10_000));
  assert.is(moved.changed, true);
  assert.is(moved.primary, "elm");
  assert.is(elm.status.writable, true);
  assert.is(oak.status.role, "golden");
  assert.is(oak.status.writable, false);
  for (let block = 0; block < 30; block++) assert.is(elm.read(block), 1 + block);
  assert.is(moved.timeline, elm.log.lineage().at(-1)?.timeline);
  elm.write(40, 77);
  lab.until("oak follows", () => elm.peer("oak").state === "in-sync");
  lab.until("oak shows it", () => oak.log.commitSeq === elm.log.commitSeq);
  assert.is(oak.read(40), 77);
  lab.done("and back", elm.commands.migrate("oak", 10_000));
  oak.write(41, 78);
  assert.is(oak.read(40), 77);
  assert.not(oak.saw("resync-started") || elm.saw("resync-started"), "no resync was needed");
});

test("the peer is not connected -> not-connected, hosts go on", () => {
  const lab = Lab.pair(2);
  const oak = lab.site("oak");
  lab.cut("oak", "elm");
  lab.until("oak notices", () => oak.peer("elm").state === "disconnected");
  assert.is(lab.refused("migrate", oak.commands.migrate("elm", 1000)), "not-connected");
  oak.write(1, 1);
});

test("the log does not drain in time -> not-drained, writes that were held go on", () => {
  const lab = Lab.pair(3);
  const oak = lab.site("oak");
  lab.world.shape("oak-a", "elm-a", { rateBytesPerSecond: 20_000 });
  for (let block = 0; block < 64; block++) oak.submit(block, 1 + block);
  const answer = oak.commands.migrate("elm", 500);
  lab.world.runFor(50);
  const held = oak.submit(100, 5);
  lab.world.runFor(200);
  assert.not(held.done, "a write during the drain waits");
  assert.is(lab.refused("migrate", answer), "not-drained");
  lab.until("the held write", () => held.done);
  assert.is(held.error, null);
  assert.is(oak.status.writable, true);
});

test("a migrate is cancelled while it drains -> hosts go on here", () => {
  const lab = Lab.pair(4);
  const oak = lab.site("oak");
  lab.world.shape("oak-a", "elm-a", { rateBytesPerSecond: 20_000 });
  for (let block = 0; block < 64; block++) oak.submit(block, 1 + block);
  const answer = oak.commands.migrate("elm", 60_000);
  lab.world.runFor(50);
  assert.ok(oak.commands.cancelMigrate());
  oak.replication!.changed();
  assert.is(lab.refused("migrate", answer), "not-drained");
  oak.write(1, 1);
});

test("the grant is lost with its link -> sent again, never two primaries, exactly one in the end", () => {
  for (let at = 1; at <= 30; at++) {
    const lab = Lab.pair(100 + at);
    const oak = lab.site("oak");
    const elm = lab.site("elm");
    oak.write(1, at);
    void oak.commands.migrate("elm", 5000);
    for (let step = 0; step < at * 3; step++) lab.world.step();
    lab.cut("oak", "elm");
    const both = () => oak.status.writable && elm.status.writable;
    for (let step = 0; step < 300; step++) {
      lab.world.runFor(10);
      assert.not(both(), `step ${at}: two primaries`);
    }
    lab.join("oak", "elm");
    lab.until("one is primary", () => oak.status.writable !== elm.status.writable);
    lab.until("the other follows", () => oak.status.role !== elm.status.role, 10_000);
    const primary = oak.status.writable ? oak : elm;
    assert.is(primary.read(1), at);
  }
});

test("either side dies at any step of a migrate -> never two primaries, exactly one when both are back", () => {
  for (let at = 1; at <= 40; at++) {
    const lab = Lab.pair(200 + at);
    const oak = lab.site("oak");
    const elm = lab.site("elm");
    oak.write(1, at);
    void oak.commands.migrate("elm", 5000);
    for (let step = 0; step < at * 2; step++) lab.world.step();
    const victim = at % 2 === 0 ? oak : elm;
    const other = victim === oak ? elm : oak;
    victim.crash();
    lab.world.runFor(at % 3 === 0 ? 2500 : 20);
    victim.start();
    const writable = () => [oak, elm].filter((site) => site.replication?.status().writable === true).length;
    lab.until("somebody serves", () => {
      assert.ok(writable() <= 1, `step ${at}: two primaries`);
      return writable() === 1 && oak.status.role !== elm.status.role;
    });
    assert.is((victim.status.writable ? victim : other).read(1), at);
  }
});

/** The role of oak's group has been given to elm, which has not answered yet. */
function given(seed: number): { lab: Lab; oak: Site; elm: Site } {
  const lab = Lab.pair(seed);
  const [oak, elm] = [lab.site("oak"), lab.site("elm")];
  oak.write(1, 1);
  void oak.commands.migrate("elm", 5000);
  lab.until("the grant is on its way", () => oak.saw("role-granted"));
  assert.ok(oak.replication!.role.is("granting"));
  return { lab, oak, elm };
}

test("serve --alone while a connected peer is about to take the role -> its answer counts; nobody goes on beside it", () => {
  const { lab, oak, elm } = given(301);
  assert.is(lab.refused("alone", oak.commands.serveAlone(5000)), "busy");
  assert.ok(elm.status.writable);
  lab.until("oak follows", () => oak.status.role === "golden");
  assert.not(oak.saw("serve-alone"));
});

test("a copy that takes the role -> takes nothing more from the giver's stream, whatever that does", () => {
  const { lab, elm } = given(303);
  lab.until("elm takes it", () => elm.replication!.role.is("promoting", "opening"));
  assert.is(elm.replication!.channel("oak")!.inbound, null);
  lab.until("elm serves", () => elm.status.writable);
});

test("serve --alone while the peer that was given the role is cut off -> at once, as soon as that is known", () => {
  const { lab, oak } = given(302);
  lab.cut("oak", "elm");
  const began = lab.world.nowMs;
  assert.is(lab.done("alone", oak.commands.serveAlone(60_000)).changed, true);
  assert.ok(oak.status.writable);
  assert.ok(lab.world.nowMs - began < 10_000);
});

test("migrate at the golden side -> not-primary; to where it is already -> unchanged", () => {
  const lab = Lab.pair(5);
  assert.is(lab.refused("at elm", lab.site("elm").commands.migrate("ash", 1000)), "not-primary");
  assert.is(lab.done("to oak", lab.site("oak").commands.migrate("oak", 1000)).changed, false);
});

test.run();
