// Decode and prefill speed of a GGUF file in llama.cpp: node llamacpp.mjs FILE THREADS DECODE PREFILL REPEATS TOKEN...
// Run where `npm install node-llama-cpp` has been done. Prints one JSON object.
import {getLlama} from "node-llama-cpp";

const [file, threads, decode, prefill, repeats, ...prompt] = process.argv.slice(2).map((x, i) => (i ? Number(x) : x));
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const model = await llama.loadModel({modelPath: file, gpuLayers: 0});
const context = await model.createContext({contextSize: 1024, batchSize: 512, threads});
const sequence = context.getSequence();

async function generate(tokens, count) {
    await sequence.clearHistory();
    const out = [], began = performance.now();
    let first = 0;
    for await (const token of sequence.evaluate(tokens, {temperature: 0, yieldEogToken: true})) {
        if (!out.length) first = performance.now();
        out.push(token);
        if (out.length >= count) break;
    }
    return {out, first: (first - began) / 1000, rest: (performance.now() - first) / 1000};
}

const rounds = [];
for (let round = 0; round <= repeats; round++) {
    const written = await generate(prompt, decode);
    const filled = await generate(Array.from({length: prefill}, (_, i) => 100 + i), 1);
    if (round) rounds.push([(written.out.length - 1) / written.rest, prefill / filled.first, written.out]);
}
const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
console.log(JSON.stringify({
    decode: median(rounds.map((r) => r[0])), prefill: median(rounds.map((r) => r[1])), tokens: rounds[0][2],
}));
process.exit(0);
