/** A golden copy whose image is a mixture (a resync has not ended): what an operator's force, and a lost cache, make of it. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Lab, type Site } from "./support/replication_site.ts";

const test = suite("roles_mixture");

/** elm is in the middle of being sent everything again, and some chunks have arrived. */
function resyncing(seed: number): { lab: Lab; oak: Site; elm: Site } {
  const lab = Lab.pair(seed, "async", { resyncBytesPerSecond: 300_000 });
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let block = 0; block < 1000; block += 4) oak.write(block, 1 + (block & 127));
  lab.until("arrived", () => elm.log.commitSeq === oak.log.commitSeq);
  lab.cut("oak", "elm");
  lab.until("noticed", () => oak.peer("elm").state === "disconnected");
  for (let block = 0; block < 1000; block += 4) oak.write(block, 128 + (block & 127));
  void elm.commands.resync("oak", 60_000);
  lab.join("oak", "elm");
  lab.until("chunks arrive", () => {
    const { image } = elm.replication!.keeper.durable;
    return image.kind === "inconsistent" && image.begun && image.nextBlock > 0;
  });
  const { image } = elm.replication!.keeper.durable;
  // Seeds with which the records themselves arrive before the resync begins show nothing here.
  assert.ok(image.kind === "inconsistent" && image.fork!.seq < oak.log.headSeq, "elm has not received everything");
  return { lab, oak, elm };
}

test("a mixture is promoted by force -> every peer is sent everything: none counts as equal by its position", () => {
  const { lab, oak, elm } = resyncing(4);
  lab.cut("oak", "elm");
  oak.crash();
  elm.restart();
  lab.done("forced", elm.commands.takeover({ force: true, fork: false, timeoutMs: 10_000 }));
  elm.write(3, 77);
  lab.join("oak", "elm");
  oak.start();
  lab.until("oak knows", () => oak.replication!.channel("elm")?.decision?.kind === "superseded");
  const { salvage } = lab.done("resync", oak.commands.resync("elm", 60_000));
  assert.ok(salvage !== null, "the mixture lacks what oak holds: that is kept");
  assert.is(elm.peer("oak").state, "in-sync");
  assert.equal(oak.image(), elm.image());
  assert.ok(elm.saw("resync-started"));
});

test("the golden side loses its write cache in the middle of a resync -> the resync begins anew, its fork stays", () => {
  const { lab, oak, elm } = resyncing(2);
  const progress = elm.replication!.document.image;
  assert.is(progress.kind, "inconsistent");
  elm.crash();
  elm.cacheTrusted = false;
  elm.start();
  elm.cacheTrusted = true;
  const fork = elm.replication!.document.image;
  assert.is(fork.kind, "inconsistent");
  assert.ok(fork.kind === "inconsistent" && fork.fork !== null, "what was kept can still be promoted");
  lab.until("consistent", () => elm.saw("image-consistent"), 60_000);
  lab.until("caught up", () => elm.log.commitSeq === oak.log.commitSeq);
  assert.equal(elm.image(), oak.image());
  lab.until("in sync", () => oak.peer("elm").state === "in-sync", 60_000);
  assert.not(oak.saw("resync-mismatch"));
  elm.restart();
  assert.is(elm.replication!.document.image.kind, "consistent", "the loss is told of once");
});

test("the write cache is lost while a kept fork is being promoted -> it is promoted, served and shown", () => {
  const { lab, oak, elm } = resyncing(3);
  const before = elm.read(8);
  lab.cut("oak", "elm");
  oak.crash();
  elm.restart();
  void elm.commands.takeover({ force: false, fork: true, timeoutMs: 10_000 });
  lab.until("the promotion is durable", () => elm.replication!.keeper.durable.promotion !== null);
  elm.crash();
  elm.cacheTrusted = false;
  elm.start();
  elm.cacheTrusted = true;
  lab.until("elm serves", () => elm.status.writable);
  assert.is(elm.group!.serving().readable, "head");
  assert.is(elm.read(8), before);
  elm.restart();
  assert.not(elm.replication!.cacheLost, "the loss is told of once");
});

test.run();
