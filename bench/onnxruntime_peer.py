"""One exported network in ONNX Runtime, ready to run one image: the other side of the protocol of `examples/latency.rs`.

`onnxruntime_peer.py FILE SIZE THREADS` writes a line of JSON with its version, the logits of the image and its peak memory;
then for each line on stdin, a number of inferences, a line with the seconds of each. Threads are pinned, one to a core.
"""

import json
import os
import resource
import sys
import time

import numpy
import onnxruntime


def main(path, size, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    cores = sorted(os.sched_getaffinity(0))[:threads]
    if cores[1:]:
        # The caller's thread is not in this list; cores are counted from 1.
        options.add_session_config_entry("session.intra_op_thread_affinities", ";".join(str(c + 1) for c in cores[1:]))
    os.sched_setaffinity(0, {cores[0]})
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    count = 3 * size * size
    values = (numpy.arange(count, dtype=numpy.int64) * 7919 % 1021).astype(numpy.float32)
    image = (values / numpy.float32(510.5) - numpy.float32(1.0)).reshape(1, 3, size, size)
    logits = session.run(None, {name: image})[0].ravel().tolist()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"onnxruntime": onnxruntime.__version__, "logits": logits, "peak_mib": peak}), flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            began = time.perf_counter()
            session.run(None, {name: image})
            seconds.append(time.perf_counter() - began)
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
