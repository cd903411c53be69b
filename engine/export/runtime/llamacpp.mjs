// Runs a GGUF file in llama.cpp by node-llama-cpp, which lies in the working folder: reads a Spec from stdin, prints an Answer
// (see spec.py). Generation is greedy and goes on past an end.
import {readFileSync} from "node:fs";
import {join} from "node:path";
import {pathToFileURL} from "node:url";

const {getLlama} = await import(pathToFileURL(join(process.cwd(), "node_modules", "node-llama-cpp", "dist", "index.js")));
const spec = JSON.parse(readFileSync(0, "utf8"));
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const began = performance.now();
const model = await llama.loadModel({modelPath: join(spec.folder, "model.gguf"), gpuLayers: 0});
const room = Math.max(spec.prompt.length + spec.decode, spec.prefill.length) + 8;
const opened = async (threads) => {
    const context = await model.createContext({contextSize: room, batchSize: Math.min(room, 512), threads});
    return context.getSequence();
};
const sequence = await opened(spec.threads);
const loaded = (performance.now() - began) / 1000;

async function generate(tokens, count, sequence) {
    await sequence.clearHistory();
    const out = [], started = performance.now();
    let first = started;
    for await (const token of sequence.evaluate(tokens, {temperature: 0, yieldEogToken: true})) {
        if (!out.length) first = performance.now();
        out.push(token);
        if (out.length >= count) break;
    }
    return {out, first: (first - started) / 1000, rest: (performance.now() - first) / 1000};
}

async function measured(decode, sequence) {
    const written = await generate(spec.prompt, decode, sequence);
    const filled = await generate(spec.prefill, 1, sequence);
    const rate = (written.out.length - 1) / written.rest;
    return {first: written.first, decode: rate, prefill: spec.prefill.length / filled.first, out: written.out};
}

const rounds = [], speeds = [];
for (let round = 0; round <= spec.repeats; round++) {
    const found = await measured(spec.decode, sequence);
    if (round) rounds.push(found);
}
const memory = process.resourceUsage().maxRSS * 1024;
for (const threads of spec.counts) {
    const other = await opened(threads);
    await measured(8, other);
    const found = await measured(8, other);
    speeds.push([threads, found.decode, found.prefill]);
    await other.context.dispose();
}
const median = (name) => rounds.map((round) => round[name]).sort((a, b) => a - b)[Math.floor(rounds.length / 2)];
console.log(JSON.stringify({
    load_seconds: loaded, memory, speeds, first_token_seconds: median("first"),
    decode: median("decode"), prefill: median("prefill"), tokens: rounds[0].out,
}));
process.exit(0);
