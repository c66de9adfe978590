"""The trainable variables of known models, as shapes made by formula: what an optimizer meets in practice."""

Shapes = list[tuple[int, ...]]


def resnet50() -> Shapes:
    """ResNet-50 (He et al. 2015) for ImageNet: convolutions without bias, each batch normalised, and a classifier."""
    shapes: Shapes = []

    def convolution(size, inputs, outputs):
        shapes.extend([(size, size, inputs, outputs), (outputs,), (outputs,)])

    convolution(7, 3, 64)
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(blocks):
            convolution(1, inputs, width)
            convolution(3, width, width)
            convolution(1, width, 4 * width)
            if block == 0:
                convolution(1, inputs, 4 * width)
            inputs = 4 * width
    return [*shapes, (inputs, 1000), (1000,)]


def bert_base() -> Shapes:
    """BERT-base uncased (Devlin et al. 2018): embeddings, 12 layers, pooler."""
    width, hidden = 768, 3072

    def dense(inputs, outputs):
        return [(inputs, outputs), (outputs,)]

    norm = [(width,), (width,)]
    layer = [*dense(width, width) * 4, *norm, *dense(width, hidden), *dense(hidden, width), *norm]
    return [(30522, width), (512, width), (2, width), *norm, *layer * 12, *dense(width, width)]


MODELS = {"ResNet-50": resnet50, "BERT-base": bert_base}
