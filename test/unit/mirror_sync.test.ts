import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Lab } from "./support/replication_site.ts";

const test = suite("mirror_sync");

test("sync mode -> a write is acknowledged only when the peer has it durably", () => {
  const lab = Lab.pair(1, "sync");
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  assert.is(oak.replication!.document.peers[0]?.protection, "armed");
  for (let block = 0; block < 20; block++) {
    const written = oak.submit(block, 1 + block);
    lab.until("the acknowledgement", () => written.done);
    assert.ok(elm.log.persistedSeq >= oak.log.commitSeq, "D4");
  }
});

test("the link of a sync peer is cut -> hosts wait until the suspension is durable, then go on", () => {
  const lab = Lab.pair(2, "sync");
  const oak = lab.site("oak");
  lab.cut("oak", "elm");
  const written = oak.submit(1, 1);
  lab.world.runFor(500);
  assert.not(written.done);
  lab.until("the acknowledgement", () => written.done);
  assert.is(oak.replication!.document.peers[0]?.protection, "suspended");
  assert.is(oak.peer("elm").state, "suspended");
  assert.ok(oak.saw("sync-suspended"));
  lab.join("oak", "elm");
  lab.until("armed again", () => oak.peer("elm").state === "in-sync");
  assert.is(oak.replication!.document.peers[0]?.protection, "armed");
});

test("the primary of an armed peer starts again -> protected from the first write on", () => {
  const lab = Lab.pair(3, "sync");
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  oak.write(1, 1);
  oak.restart();
  lab.until("oak serves", () => oak.status.writable);
  assert.is(oak.replication!.document.peers[0]?.protection, "armed");
  const written = oak.submit(2, 2);
  lab.until("the acknowledgement", () => written.done);
  assert.ok(elm.log.persistedSeq >= oak.log.commitSeq, "D4");
});

test("the primary of an armed peer is served alone -> suspended durably before the first write", () => {
  const lab = Lab.pair(4, "sync");
  const oak = lab.site("oak");
  lab.site("elm").crash();
  oak.restart();
  lab.done("alone", oak.commands.serveAlone(10_000));
  assert.is(oak.replication!.document.peers[0]?.protection, "suspended");
  assert.ok(oak.saw("sync-suspended"));
  oak.write(1, 1);
});

test("set-mode both ways under writes -> hosts go on, protection as asked", () => {
  const lab = Lab.pair(5);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let block = 0; block < 10; block++) oak.submit(block, 5);
  lab.done("to sync", oak.commands.setMode("elm", "sync"));
  lab.until(
    "armed",
    () => oak.peer("elm").state === "in-sync" && oak.replication!.document.peers[0]?.protection === "armed",
  );
  oak.write(1, 9);
  assert.ok(elm.log.persistedSeq >= oak.log.commitSeq);
  lab.done("to async", oak.commands.setMode("elm", "async"));
  lab.cut("oak", "elm");
  oak.write(1, 10);
  assert.is(lab.refused("to delta", oak.commands.setMode("elm", "delta")), "not-in-this-version");
  assert.is(lab.refused("to nobody", oak.commands.setMode("ash", "sync")), "not-found");
});

test("an idle sync group -> the golden view reaches the last write soon", () => {
  const lab = Lab.pair(6, "sync");
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  oak.write(7, 42);
  lab.until("visible", () => elm.log.commitSeq >= oak.log.commitSeq, 100);
  assert.is(elm.read(7), 42);
});

test("a sync peer stops acknowledging while its link lives -> suspended after the time-out", () => {
  const lab = Lab.pair(7, "sync");
  const oak = lab.site("oak");
  lab.world.shape("elm-a", "oak-a", { latencyMs: 5000 });
  const written = oak.submit(1, 1);
  lab.until("the acknowledgement", () => written.done, 5000);
  assert.is(oak.replication!.document.peers[0]?.protection, "suspended");
});

test.run();
