import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Lab } from "./support/replication_site.ts";

const test = suite("mirror_streaming");

test("a peer is added to a new group -> its golden copy is made there and follows", () => {
  const lab = Lab.pair(1);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  oak.write(3, 7);
  lab.until("elm has it", () => oak.peer("elm").lagSeqs === 0 && elm.log.commitSeq === oak.log.commitSeq);
  assert.is(elm.read(3), 7);
  assert.is(elm.status.role, "golden");
  assert.is(elm.status.writable, false);
  assert.is(elm.status.primary, "oak");
  lab.until("elm knows that it is in sync", () => elm.status.state === "in-sync");
  assert.equal(elm.group!.volumes(), oak.group!.volumes());
});

test("the link is cut under writes -> disconnected, then the log catches the peer up", () => {
  const lab = Lab.pair(2);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  lab.cut("oak", "elm");
  for (let block = 0; block < 20; block++) oak.write(block, 100 + block);
  lab.until("oak notices", () => oak.peer("elm").state === "disconnected");
  const lag = oak.peer("elm");
  assert.is(lag.lagSeqs, 20);
  assert.ok(lag.lagBytes! >= 20 * 4096);
  assert.ok(lag.lagMs! > 0);
  lab.until("elm notices", () => elm.status.state === "consistent");
  assert.is(elm.status.peers[0]?.state, "disconnected");
  lab.join("oak", "elm");
  lab.until("in sync again", () => oak.peer("elm").state === "in-sync");
  lab.until("seen on elm", () => elm.log.commitSeq === oak.log.commitSeq);
  assert.equal(elm.image(), oak.image());
});

test("the primary dies under load and starts again -> confirmed by its peer, nothing acknowledged is lost", () => {
  const lab = Lab.pair(3);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let block = 0; block < 50; block++) oak.write(block, 1 + block);
  oak.restart();
  assert.is(oak.status.writable, false);
  assert.match(oak.status.why ?? "", /no peer \(elm\) has confirmed/);
  lab.until("oak serves again", () => oak.status.writable);
  for (let block = 0; block < 50; block++) assert.is(oak.read(block), 1 + block);
  oak.write(60, 99);
  lab.until("in sync", () => oak.peer("elm").state === "in-sync");
  lab.until("seen on elm", () => elm.log.commitSeq === oak.log.commitSeq);
  assert.equal(elm.image(), oak.image());
  assert.is(oak.log.lineage().length, 2);
  assert.equal(elm.log.lineage(), oak.log.lineage());
});

test("the golden copy dies and starts again -> it goes on where it was", () => {
  const lab = Lab.pair(4);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let block = 0; block < 10; block++) oak.write(block, 1 + block);
  elm.crash();
  for (let block = 5; block < 30; block++) oak.write(block, 50 + block);
  elm.start();
  assert.is(elm.status.role, "golden");
  lab.until("in sync", () => oak.peer("elm").state === "in-sync");
  lab.until("seen on elm", () => elm.log.commitSeq === oak.log.commitSeq);
  assert.equal(elm.image(), oak.image());
  assert.not(oak.saw("resync-started"));
});

test("the primary starts while its peer is away -> it stays non-writable until the operator says alone", () => {
  const lab = Lab.pair(5);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  oak.write(1, 1);
  elm.crash();
  oak.restart();
  lab.until("the role has settled", () => oak.status.settled);
  assert.is(oak.status.role, "primary");
  assert.is(oak.status.writable, false);
  const refused = oak.submit(1, 2);
  lab.world.runFor(100);
  assert.is(refused.error, "read-only");
  assert.is(oak.read(1), 1);
  const served = lab.done("serve alone", oak.commands.serveAlone(10_000));
  assert.is(served.changed, true);
  assert.ok(oak.saw("serve-alone"));
  oak.write(1, 2);
  elm.start();
  lab.until("in sync", () => oak.peer("elm").state === "in-sync");
  lab.until("seen on elm", () => elm.log.commitSeq === oak.log.commitSeq);
  assert.is(elm.read(1), 2);
  assert.is(lab.done("again", oak.commands.serveAlone(10_000)).changed, false);
});

test("two volumes are written in turn -> every view on the golden copy is a prefix of the writes", () => {
  const lab = Lab.pair(6);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  oak.addVolume(2);
  lab.until("the volume has arrived", () => elm.group!.volumes().length === 2);
  for (let value = 1; value <= 60; value++) {
    oak.submit(0, value, 1 + (value % 2));
    lab.world.runFor(0.3);
    const odd = elm.read(0, 2);
    const even = elm.read(0, 1);
    assert.ok(Math.abs(odd - even) <= 1 || odd === 0 || even === 0, `${odd} and ${even} are neighbours`);
  }
});

test("a peer is removed -> the link ends and the log is no longer kept for it", () => {
  const lab = Lab.pair(7);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  lab.done("remove", oak.commands.removePeer("elm"));
  lab.until("elm notices", () => elm.status.peers[0]?.state === "disconnected");
  assert.equal(oak.status.peers, []);
  oak.restart();
  lab.until("oak serves without peers", () => oak.status.writable);
});

test("the host link flaps -> the stream survives every reset", () => {
  const lab = Lab.pair(8);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let round = 0; round < 10; round++) {
    for (let block = 0; block < 20; block++) oak.submit((round * 7 + block) % 64, round * 20 + block);
    lab.world.runFor(1 + round);
    lab.cut("oak", "elm");
    lab.world.runFor(round % 2 === 0 ? 1500 : 200);
    lab.join("oak", "elm");
  }
  lab.until("in sync", () => oak.peer("elm").state === "in-sync");
  lab.until("seen on elm", () => elm.log.commitSeq === oak.log.commitSeq);
  assert.equal(elm.image(), oak.image());
});

test.run();
