"""Right answers in 8 bits beside ONNX Runtime's own static quantisation, on the same images. `make bench-quant` sets it up.

Ours are the committed predictions of the quantisation study's `imagenet-subset` scale. Theirs: the same checkpoint by our own
f32 export, quantised on the same 512 images (QDQ, activations u8, weights s8 and per channel, min-max), run with
`session.x64quantprecision`, so that CPUs without VNNI do not saturate. In f32 both sides must name the same images right.

With TensorFlow's mean and standard deviation every value of a pixel lies in the middle between two of the image's steps, so that
the way in which ties are rounded decides where all of them go: theirs to even, ours away from zero. What that alone is worth is
told by theirs on images that are a hair brighter and a hair darker.

And ours again, quantised, exported as a QDQ file and run there. It should name the same class as our integers on 99 % of the
images; but a step's difference in few places grows through fifty layers, and ONNX Runtime, with its fusions and without,
differs from itself as well. So it is said where they are more than it has with itself, by two standard errors; and the layer is
named at which a step's difference is most frequent: our two roundings beside one in f32, on ONNX Runtime's own inputs. So is it
of networks trained here on Imagewoof, on all of its validation images.
"""

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
import pyarrow.parquet
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from PIL import Image

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
HALF = ([0.5] * 3, [0.5] * 3)
LITE = ([127 / 255] * 3, [128 / 255] * 3)

LITE_PROTOCOL = ["--padding", "same", "--interpolation", "bicubic"] + [
    f"--{name}={','.join(map(repr, values))}" for name, values in zip(("mean", "std"), LITE)
]

# Network, who made it, weights, whether it pads as TensorFlow does, how it resizes, its mean and standard deviation; and the
# same as our program is told.
SUBJECTS = [
    ("mobilenetv2", "torchvision", "mobilenet_v2_1.0_imagenet.safetensors", False, Image.BILINEAR, IMAGENET, []),
    ("mobilenetv2", "tensorflow", "mobilenet_v2_1.0_imagenet_tf2ptq.safetensors", True, Image.BILINEAR, HALF, ["--preset", "tensorflow"]),
    ("efficientnet_lite0", "efficientnet-lite0", "efficientnet_lite0_imagenet.pth", True, Image.BICUBIC, LITE, LITE_PROTOCOL),
]
# Trained here: network, and the cell of the width study, scored in 8 bits at the quantisation study's `imagewoof` scale.
TRAINED = [("mobilenetv2", "mobilenetv2-w1.0-s0"), ("mobilenext", "mobilenext-w1.0-s0")]
# Input and short side before the crop.
IMAGENET_SIZES, IMAGEWOOF_SIZES = (224, 256), (128, 146)
BATCH = 16
# Decides a tie and changes nothing else.
HAIR = numpy.float32(1e-5)
SAME = 0.99


def find(roots, name):
    for root in roots:
        path = os.path.join(root, name)
        if os.path.exists(path):
            return path
    return None


def read(path, interpolation, mean, std, sizes=IMAGENET_SIZES):
    """As torchvision's Resize and CenterCrop."""
    side, short = sizes
    image = Image.open(path).convert("RGB")
    image = image.resize([short * of // min(image.size) for of in image.size], interpolation)
    left, top = [round((of - side) / 2) for of in image.size]
    pixels = numpy.asarray(image.crop((left, top, left + side, top + side)), dtype=numpy.float32) / 255
    return ((pixels - numpy.float32(mean)) / numpy.float32(std)).transpose(2, 0, 1)


class Calibration(CalibrationDataReader):
    def __init__(self, name, images):
        self.batches = iter({name: image[None]} for image in images)

    def get_next(self):
        return next(self.batches, None)


def session(path, fused=True):
    options = onnxruntime.SessionOptions()
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def predict(path, images, fused=True):
    network = session(path, fused)
    name = network.get_inputs()[0].name
    chosen = [network.run(None, {name: images[at : at + BATCH]})[0].argmax(1) for at in range(0, len(images), BATCH)]
    return numpy.concatenate(chosen)


def requantised(sums, real):
    """`sums` times a factor below 1, by our two roundings."""
    fraction, exponent = math.frexp(real)
    factor, shift = round(fraction * 2**31), -exponent
    high = (sums * factor + (1 << 30)) >> 31
    return (high + ((1 << shift) >> 1) - (high < 0)) >> shift if shift > 0 else high


def parting(path, image):
    """The layer of a QDQ file where our integers differ from ONNX Runtime's most often, and on what share of its outputs."""
    model = onnx.load(path)
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    writers = {node.output[0]: node for node in model.graph.node}
    steps = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    for node in steps:
        model.graph.output.append(onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.UINT8, None))
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        onnx.save(model, file.name)
        network = session(file.name, fused=False)
    names = [output.name for output in network.get_outputs()]
    maps = dict(zip(names, network.run(None, {network.get_inputs()[0].name: image[None]})))
    worst = ("", 0.0)
    for node in model.graph.node:
        rounded = [of for of in steps if of.input[0] == node.output[0]]
        if node.op_type != "Conv" or not rounded:
            continue
        (x, x_scale, x_zero), (w, w_scale, _), (b, *_) = (writers[name].input for name in node.input)
        scale, zero = (tensors[name] for name in rounded[0].input[1:])
        at = {attribute.name: list(attribute.ints) or attribute.i for attribute in node.attribute}
        kernel, stride, (top, left, bottom, right) = at["kernel_shape"][0], at["strides"][0], at["pads"]
        inputs = maps[x][0].astype(numpy.int64) - int(tensors[x_zero])
        inputs = numpy.pad(inputs, ((0, 0), (top, bottom), (left, right)))
        weights = tensors[w].astype(numpy.int64)
        height, width = ((side - kernel) // stride + 1 for side in inputs.shape[1:])
        sums = numpy.zeros((len(weights), height, width), numpy.int64) + tensors[b].astype(numpy.int64)[:, None, None]
        for ky, kx in itertools.product(range(kernel), range(kernel)):
            part = inputs[:, ky : ky + stride * (height - 1) + 1 : stride, kx : kx + stride * (width - 1) + 1 : stride]
            if at["group"] == 1:
                sums += numpy.tensordot(weights[:, :, ky, kx], part, 1)
            else:
                sums += weights[:, 0, ky, kx][:, None, None] * part
        factors = float(tensors[x_scale]) * tensors[w_scale].astype(float) / float(scale)
        own = numpy.stack([requantised(of, factor) for of, factor in zip(sums, factors)]) + int(zero)
        share = float((own.clip(0, 255) != maps[rounded[0].output[0]][0]).mean())
        worst = max(worst, (node.name.removesuffix("/real").removesuffix("/all"), share), key=lambda of: of[1])
    return worst


def compare(options, subject, folder):
    network, maker, weights, same, interpolation, (mean, std), protocol = subject
    cell = f"{network}-w1.0-{maker}"
    rows = "results/predictions/quant/imagenet-subset"
    ours = {}
    for scheme in ("f32", "per-channel"):
        path = os.path.join(rows, f"{cell}-{scheme}.parquet")
        if not os.path.exists(path):
            return f"not run: {cell}-{scheme}; sandglass run quant --profile imagenet-subset --cell {cell}-{scheme}"
        ours[scheme] = pyarrow.parquet.read_table(path).to_pydict()
    weights, data, calibration = (find(options.data, name) for name in (f"weights/{weights}", "imagenet_val_910/val", "imagenet_train_512/train"))
    if None in (weights, data, calibration):
        return "weights or images are not below " + " or ".join(options.data)

    fp32, int8 = (os.path.join(folder, f"{cell}-{kind}.onnx") for kind in ("fp32", "int8"))
    padding = ["--same-padding"] if same else []
    subprocess.run([options.sandglass, "export", network, "--weights", weights, "--onnx", fp32] + padding, check=True)
    labels, names = numpy.array(ours["f32"]["label"]), ours["f32"]["name"]
    images = numpy.stack([read(os.path.join(data, name), interpolation, mean, std) for name in names])
    paths = sorted(os.path.join(at, name) for at, _, found in os.walk(calibration) for name in found)
    seen = [read(path, interpolation, mean, std) for path in paths]
    reader = Calibration(session(fp32).get_inputs()[0].name, seen)
    quantize_static(
        fp32, int8, reader, quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
    )
    told = ["--weights", weights, "--calibration", os.path.dirname(calibration)] + protocol
    qdq = exported(options, network, cell, told, [], folder)
    right = {
        "ours f32": numpy.array(ours["f32"]["prediction"]) == labels,
        "ours int8": numpy.array(ours["per-channel"]["prediction"]) == labels,
        "theirs f32": predict(fp32, images) == labels,
        "theirs int8": predict(int8, images) == labels,
    }
    counts = agreed(cell, right)
    difference = right["ours int8"].astype(int) - right["theirs int8"]
    error = math.sqrt(len(difference) * difference.var())
    predictions = numpy.array(ours["per-channel"]["prediction"])
    if (mean, std) == HALF:
        counts["theirs nudged"] = [int((predict(int8, images + of) == labels).sum()) for of in (HAIR, -HAIR)]
    return {
        "n": len(labels), "calibrated on": len(paths), **counts, "difference": int(difference.sum()), "standard error": error,
        "won": int((difference > 0).sum()), "lost": int((difference < 0).sum()),
        **compare_exported(qdq, images, labels, predictions),
    }


def agreed(cell, right):
    """How many are right, where in f32 both sides agree on which."""
    counts = {side: int(of.sum()) for side, of in right.items()}
    differ = int((right["ours f32"] != right["theirs f32"]).sum())
    if differ > 0:
        sys.exit(f"bench-quant: {cell}: in f32 the sides differ on {differ} images: {counts}")
    return counts


def exported(options, network, cell, told, size, folder):
    """A QDQ file of ours."""
    quantised, qdq = (os.path.join(folder, f"{cell}-{name}") for name in ("q.safetensors", "qdq.onnx"))
    subprocess.run([options.sandglass, "quantise", network, "--out", quantised] + told, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([options.sandglass, "export", network, "--weights", quantised, "--onnx", qdq] + size, check=True)
    return qdq


def compare_exported(qdq, images, labels, predictions):
    """A QDQ file of ours beside the predictions of our integers."""
    chosen = predict(qdq, images)
    same, itself = chosen == predictions, chosen == predict(qdq, images, fused=False)
    pairs = same.astype(int) - itself
    layer, share = parting(qdq, images[0])
    return {
        "ours exported": int((chosen == labels).sum()), "same class exported": float(same.mean()),
        "same class as itself unfused": float(itself.mean()), "standard error of the two": math.sqrt(pairs.var() / len(pairs)),
        "parts at": layer, "on a share of": share,
    }


def compare_trained(options, network, cell, folder):
    ours = {}
    for scheme in ("f32", "per-channel"):
        path = os.path.join("results/predictions/quant/imagewoof", f"{cell}-{scheme}.parquet")
        if not os.path.exists(path):
            return f"not run: {cell}-{scheme}; sandglass run quant --profile imagewoof --cell {cell}-{scheme}"
        ours[scheme] = pyarrow.parquet.read_table(path).to_pydict()
    weights, data = f"results/checkpoints/width/imagewoof/{cell}.safetensors", find(options.data, "imagewoof2-320")
    if data is None:
        return "Imagewoof is not below " + " or ".join(options.data)
    fp32 = os.path.join(folder, f"{cell}-fp32.onnx")
    size = ["--input", str(IMAGEWOOF_SIZES[0])]
    subprocess.run([options.sandglass, "export", network, "--weights", weights, "--onnx", fp32] + size, check=True)
    qdq = exported(options, network, cell, ["--weights", weights, "--calibration", data], size, folder)
    labels, names = numpy.array(ours["f32"]["label"]), ours["f32"]["name"]
    val = os.path.join(data, "val")
    images = numpy.stack([read(os.path.join(val, name), Image.BILINEAR, *IMAGENET, IMAGEWOOF_SIZES) for name in names])
    f32, int8 = (numpy.array(ours[scheme]["prediction"]) for scheme in ("f32", "per-channel"))
    right = {"ours f32": f32 == labels, "theirs f32": predict(fp32, images) == labels, "ours int8": int8 == labels}
    return {"n": len(labels), **agreed(cell, right), **compare_exported(qdq, images, labels, int8)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sandglass", required=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    roots = os.environ.get("SANDGLASS_DATA")
    options.data = roots.split(":") if roots else ["data", "../shared/data"]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for subject in SUBJECTS:
            found[f"{subject[0]}, {subject[1]}"] = compare(options, subject, folder)
        for network, cell in TRAINED:
            found[cell] = compare_trained(options, network, cell, folder)
    if options.json:
        print(json.dumps({"onnxruntime": onnxruntime.__version__, "subjects": found}))
    else:
        print(f"ONNX Runtime {onnxruntime.__version__}")
        for name, of in found.items():
            print(f"{name}: {of if isinstance(of, str) else told_of(of)}")
    measured = {name: of for name, of in found.items() if not isinstance(of, str)}
    worse = [name for name, of in measured.items() if of.get("difference", 0) < -of.get("standard error", 0)]
    apart = [name for name, of in measured.items() if is_apart(of)]
    if apart and not options.json:
        print(f"Exported, more classes differ from our integers' than from ONNX Runtime's own unfused: {', '.join(apart)}")
    if worse:
        sys.exit(f"bench-quant: fewer right answers than ONNX Runtime's: {', '.join(worse)}")


def mcnemar(won, lost):
    """Of both sides: how often a fair coin parts so far."""
    n, few = won + lost, min(won, lost)
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(few + 1)) / 2**n)


def told_of(of):
    theirs = ""
    if "difference" in of:
        theirs = (
            f", theirs {of['theirs int8']}: {of['difference']:+d}, {of['won']} right by ours alone and {of['lost']} by theirs, "
            f"standard error of the pairs {of['standard error']:.1f}, McNemar's exact p {mcnemar(of['won'], of['lost']):.2f}"
        )
    if "theirs nudged" in of:
        theirs += f" (on images a hair brighter {of['theirs nudged'][0]}, darker {of['theirs nudged'][1]})"
    return (
        f"of {of['n']}, in f32 {of['ours f32']} and {of['theirs f32']} right; in 8 bits {of['ours int8']}{theirs}; ours exported "
        f"{of['ours exported']}, the same class on {100 * of['same class exported']:.1f} %, where ONNX Runtime unfused has the "
        f"same as itself on {100 * of['same class as itself unfused']:.1f} %; most steps differ at {of['parts at']}, "
        f"{100 * of['on a share of']:.2f} %"
    )


def is_apart(of):
    least = of["same class as itself unfused"] - 2 * of["standard error of the two"]
    return of["same class exported"] < min(SAME, least)


main()
