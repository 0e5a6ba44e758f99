"""What the five papers print, typed from their texts and not from `experiments.papers`.

Tables are as printed, in percent, a line a row: the label, a bar, the numbers of the columns that
the first line names, for each data set before its colon; a hyphen is a number that the paper lacks.
Constants are by the keys of a configuration at the paper's scale, each with the words it is from;
[C] marks what the papers do not print and their authors' code, or the code that they build on, has;
[D] what neither has.
"""

# Zhang and Xu, ACML 2018 -----------------------------------------------------------------------

BATCH_CONTRASTIVE_1 = """
rank-1 rank-5 rank-10 mAP
SpindleNet Zhao et al. (2017)        | 76.90 91.50 94.60 -
GAN Zheng et al. (2017a)             | 78.06 - - 56.23
SVDNet Sun et al. (2017)             | 82.3 - - 62.1
PDC Su et al. (2017)                 | 84.14 92.73 94.92 63.41
APR Lin et al. (2017)                | 84.29 93.20 95.19 64.67
JLML Li et al. (2017)                | 85.1 - - 65.5
Verif + Identif Zheng et al. (2016b) | 79.51 90.91 94.09 59.87
TriNet Hermans et al. (2017)         | 84.92 94.21 - 69.14
Baseline                             | 83.34 93.79 95.93 63.20
Ours                                 | 86.40 94.45 96.48 67.64
"""

BATCH_CONTRASTIVE_2 = """
rank-1 mAP
Verif + Identif Zheng et al. (2016b)   | 68.90 49.30
APR Lin et al. (2017)                  | 70.69 51.88
PAN Zheng et al. (2017b)               | 71.59 51.51
ACRN Schumann and Stiefelhagen (2017)  | 72.58 51.96
FMN Ding et al. (2017)                 | 74.51 56.88
SVDNet Sun et al. (2017)               | 76.70 56.80
Baseline                               | 73.31 53.25
Ours                                   | 78.19 58.64
"""

# Zheng, Zheng and Yang, TOMM 2017 --------------------------------------------------------------

IDENTIF_VERIF_2 = """
mAP rank-1
CaffeNet (V)    | 22.47 41.24
CaffeNet (I)    | 26.79 50.89
CaffeNet (I+V)  | 39.61 62.14
VGG16 (V)       | 24.29 42.99
VGG16 (I)       | 38.27 65.02
VGG16 (I+V)     | 47.45 70.16
ResNet-50 (V)   | 44.94 64.58
ResNet-50 (I)   | 51.48 73.69
ResNet-50 (I+V) | 59.87 79.51
"""
# "The ResNet-50 model using the contrastive loss has 75.12% rank-1 accuracy and 53.32% mAP."
IDENTIF_VERIF_2 += "ResNet-50 (I + contrastive) | 53.32 75.12\n"

IDENTIF_VERIF_3 = """
rank-1 mAP multi-rank-1 multi-mAP
BoW + KISSME [3]        | 44.42 20.76 - -
SL [31]                 | 51.90 26.35 - -
Multiregion CNN [32]    | 45.58 26.11 56.59 32.26
DADM [33]               | 39.4 19.6 49.0 25.8
CAN [34]                | 48.24 24.43 - -
DNS [35]                | 55.43 29.87 71.56 46.03
Fisher Network [36]     | 48.15 29.94 - -
S-LSTM [37]             | - - 61.6 35.3
Gate Reid [6]           | 65.88 39.55 76.04 48.45
CaffeNet (I)            | 50.89 26.79 59.80 36.50
CaffeNet (I+V)          | 62.14 39.61 72.21 49.62
VGG16 (I)               | 65.02 38.27 74.14 52.25
VGG16 (I+V)             | 70.16 47.45 77.94 57.66
ResNet-50 (I)           | 73.69 51.48 81.47 63.95
ResNet-50 (I+V)         | 79.51 59.87 85.84 70.33
"""

IDENTIF_VERIF_4 = """
rank-1 rank-5 rank-10 mAP
KISSME [38]      | 11.7 33.3 48.0 -
DeepReID [2]     | 19.9 49.3 64.7 -
Bow+HS [3]       | 24.3 - - -
LOMO+XQDA [39]   | 46.3 78.9 88.6 -
SI-CI [40]       | 52.2 84.3 94.8 -
DNS [35]         | 54.7 80.1 88.3 -
CaffeNet (I)     | 35.8 65.3 77.96 42.6
CaffeNet (I+V)   | 59.8 88.3 94.2 65.8
VGG16 (I)        | 49.1 78.4 87.2 55.7
VGG16 (I+V)      | 71.8 93.0 97.1 76.5
ResNet-50 (I)    | 71.5 91.5 95.9 75.8
ResNet-50 (I+V)  | 83.4 97.1 98.7 86.4
"""

IDENTIF_VERIF_5 = """
rank-1 rank-5 rank-10 mAP
S-LSTM [37]      | 57.3 80.1 88.3 46.3
Gate-SCNN [6]    | 68.1 88.1 94.6 58.8
CaffeNet (I)     | 43.3 63.5 76.8 37.2
CaffeNet (I+V)   | 67.2 86.2 92.3 61.5
VGG16 (I)        | 58.8 80.2 87.3 51.0
VGG16 (I+V)      | 78.8 91.8 95.4 73.9
ResNet-50 (I)    | 77.1 89.6 93.9 73.1
ResNet-50 (I+V)  | 88.3 95.7 97.8 85.0
"""

# Gallery sizes 19,732, 119,732, 219,732 and 519,732, each with rank-1 and mAP.
IDENTIF_VERIF_6 = """
rank-1 mAP 100k-rank-1 100k-mAP 200k-rank-1 200k-mAP 500k-rank-1 500k-mAP
ResNet-50 (I)    | 73.69 51.48 72.15 48.72 71.55 47.57 70.67 46.05
ResNet-50 (I+V)  | 79.51 59.87 73.78 52.28 71.50 49.11 68.26 45.24
"""

IDENTIF_VERIF_7 = """
mAP
mVoc/BoW [43]               | 48.8
CroW [44] (VGG16)           | 68.2
Neural codes [45]           | 55.7
R-MAC [42] (CaffeNet)       | 56.1
R-MAC [42] (VGG16)          | 66.9
R-MAC-Hard [41] (CaffeNet)  | 62.5
R-MAC-Hard [41] (VGG16)     | 77.0
MAC-Hard(V) [41] (CaffeNet) | 62.2
MAC-Hard(V) [41] (VGG16)    | 79.7
CaffeNet (I)                | 60.2
CaffeNet (I+V)              | 66.2
VGG16 (I)                   | 69.8
VGG16 (I+V)                 | 76.4
"""

# "The cross-camera average mAP and average rank-1 accuracy are 48.42% and 54.42%" (Fig. 6).
IDENTIF_VERIF_FIGURE_6 = ("mAP 48.42 %", "rank-1 54.42 %")
# "a test split (354 identity, 6868 images) of Market1501" (Fig. 4).
IDENTIF_VERIF_FIGURE_4 = 354
# The authors' README (layumi/2016_person_re-ID): rank-1 80.82, mAP 62.30 as their code tests.
IDENTIF_VERIF_DENSE_FLIP = {"rank1": 0.8082, "map_trapezoid": 0.6230}

# Zheng et al., CLEVER --------------------------------------------------------------------------

CLEVER_1 = """
rank1 rank5 rank10
baseline IC [9]         | 80.20 96.10 97.90
CLEVER(intra only)+I    | 81.45 96.25 98.00
baseline IV*            | 81.90 95.30 97.75
CLEVER(intra only)+IV   | 83.10 96.35 98.40
CLEVER(inter only)+IV   | 81.45 95.30 97.80
CLEVER+I                | 82.00 96.45 98.45
CLEVER+IV               | 84.85 97.15 98.25
"""

CLEVER_2 = """
CUHK03, CUHK01, VIPeR: rank1 rank5 rank10
Siamese LSTM [17]       | 57.30 80.10 88.30 - - - 42.40 68.70 79.40
CNN Embedding [23]      | 83.40 97.10 98.70 - - - - - -
GOG [14]                | 67.30 91.00 96.00 57.80 79.10 86.20 49.70 79.70 88.70
MCP-CNN [4]             | - - - 53.70 84.30 91.00 47.80 74.70 84.80
Ensembles [16]          | 62.10 89.10 94.30 53.40 76.30 84.40 45.90 77.50 88.90
CNN-FRW-IC [9]          | 82.10 96.20 98.20 70.50 90.00 94.80 50.40 77.60 85.80
IDLA [1]                | 54.74 86.50 94.00 47.53 71.50 80.00 34.81 63.32 74.79
Deep Transfer [6]       | 84.10 - - 77.00 - - 56.30 - -
DGD [19]                | 80.50 94.90 97.10 71.70 88.60 92.60 35.40 62.30 69.30
Quadruplet+MargOHNM [2] | 75.53 95.15 99.16 62.55 83.44 89.71 49.05 73.10 81.96
CLEVER+iv               | 84.85 97.15 98.25 70.90 90.86 94.92 52.33 79.41 88.53
"""

# Wei et al., AVSS 2019 -------------------------------------------------------------------------

INHERENT_1 = """
rank1 rank5 rank10 rank20 mAP
ResNet50 htri | 55.3 78.3 86.0 93.2 47.7
ResNet18 htri | 66.9 85.5 93.6 97.8 55.6
Ours set1     | 67.3 87.1 94.1 97.4 51.5
Ours set2     | 70.2 88.2 92.8 96.7 53.5
Ours set3     | 71.5 90.8 95.6 98.9 56.8
"""

# Guo and Cheung, CVPR 2018 ---------------------------------------------------------------------

# The last three rows stand column by column below the table in the text that this was typed from.
CSN_2 = """
CUHK03 detected, CUHK03 labeled, CUHK01, VIPeR: top-1 top-5 top-10
FPNN              | 19.89 48.70 64.79 20.65 51.50 68.50 27.87 64.50 73.46 - - -
ImpCNN            | 44.96 76.50 83.47 54.74 87.80 93.88 65.00 89.00 93.12 - - -
Joint             | 52.17 85.30 91.20 - - - 71.80 90.00 93.50 35.76 66.70 84.50
SiameseLSTM       | 57.30 80.10 88.30 - - - - - - 42.40 68.70 79.40
S-CNN             | 68.10 88.10 94.60 - - - - - - 37.80 66.90 77.40
BDLatPart         | 67.99 91.04 95.36 74.21 94.33 97.54 - - - - - -
ImpTriplet        | - - - - - - - - - 47.80 74.70 84.80
X-Corr            | 72.04 92.10 96.00 72.43 92.50 95.51 81.23 95.00 97.39 - - -
Quadruplet        | 75.53 95.15 99.16 - - - 81.00 96.50 98.00 49.05 73.10 81.96
DGD               | - - - 72.58 91.59 95.21 66.60 - - 38.6 - -
MTDNet            | 74.68 95.99 97.47 - - - 78.50 96.50 97.50 47.47 73.10 82.59
MuDeep            | 75.64 94.36 97.46 76.87 96.12 98.41 79.01 97.00 98.96 43.03 74.36 85.76
DPFL              | 82.00 - - 86.70 - - - - - - - -
DeepAlign         | 81.60 97.30 98.40 85.40 97.60 99.40 88.50 98.40 99.60 48.70 74.70 85.10
PDC               | 78.29 94.83 97.15 88.70 98.61 99.24 - - - 51.27 74.05 84.18
Spindle           | - - - 88.50 97.80 98.60 79.90 94.40 97.10 53.80 74.10 83.20
JLML              | 80.60 96.90 98.70 83.20 98.00 99.40 - - - 50.20 74.20 84.30
Ours-(L2, L3)     | 79.45 94.70 97.90 80.30 97.10 98.35 86.55 97.70 98.70 48.03 72.90 82.15
Ours-(L2, L3, L4) | 86.45 97.50 99.10 87.50 97.85 99.45 88.20 98.20 99.35 50.10 73.10 84.35
"""

CSN_3 = """
top-1 top-5 top-10
Ours-cls          | 75.90 94.55 97.85
Ours-L2           | 74.70 93.52 96.45
Ours-L3           | 76.55 93.70 96.85
Ours-L4           | 79.15 94.45 97.80
Ours-(L2, L3)     | 79.45 94.70 97.90
Ours-(L2, L3, L4) | 86.45 97.50 99.10
"""

CSN_4 = """
top-1 top-5 top-10
C1 | 79.40 94.95 98.40
C2 | 82.00 96.40 98.55
C3 | 79.15 94.45 97.80
C4 | 86.45 97.50 99.10
"""

# Millions of parameters, GFLOPs, depth.
CSN_5 = {
    "X-Corr": (2.2, 1.58, 10),
    "BDLatPart": (1.4, 1.80, 25),
    "DPFL": (35, 6.00, 40),
    "JLML": (7.2, 1.54, 39),
    "DeepAlign": (6, 1.57, 22),
    "csn (L2, L3)": (0.5, 0.96, 12),
    "csn (L2, L3, L4)": (0.8, 1.31, 18),
    "csn (L2, L3, L4), trunk=table5": (0.8, 1.31, 18),
}

# Constants -------------------------------------------------------------------------------------

_STEPS = {"train.log_every": 50, "train.checkpoint_every": 2_500}  # [D]: how often a run writes.

WHERE_NOTHING_IS_SAID = {  # [D], of a key that the constants below do not have.
    "data.num_shifted": 3,
    "data.from_scratch_std": 64.0,  # The usual deviation of pixels.
    "model.verification_dropout": "after_square",
    "sampler.images_per_identity": 4,
    "sampler.ratio_rule": "fixed",
    "sampler.negatives_per_positive": 1.0,
    "sampler.ratio_growth": 1.01,
    "sampler.ratio_limit": 4.0,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay_of": "kernels",
    "optimizer.decay": "steps",
    "optimizer.warmup_start": 0.1,
    "optimizer.epoch": "images",
    "train.accumulate": 1,
    "train.steps_per_dispatch": 1,
    "evaluation.test_mode": "single",
    "evaluation.normalise": True,
    "evaluation.rerank_k1": 20,  # Zhong et al. 2017
    "evaluation.rerank_k2": 6,
    "evaluation.rerank_lambda": 0.3,
    "evaluation.num_repeats": 1,
    "evaluation.batch_size": 64,
    "evaluation.pairs_per_block": 256,
    "evaluation.epsilon": 0.0001,
}
"""Everything that is not 0, empty, False or None where a config says nothing."""

_ZHANG_AND_XU = {
    "data.image_size": [
        256,
        128,
    ],  # "more suitable to resize the ... image to 256x128"
    "data.flip": True,  # [D]
    "data.mean": "imagenet",  # [D]: of the weights
    "model.name": "resnet50",  # "We fine-tune the ResNet50 model"
    "model.width": 64,
    "model.stride": "torchvision",  # [D]: of the weights that can be loaded
    "model.dropout": 0.9,  # "a very high dropout rate of 0.9"
    "model.identification": True,
    "sampler.name": "uniform",
    "sampler.batch_size": 16,  # "a small batch size of 16"
    "optimizer.name": "sgd",  # "stochastic gradient descent(SGD)"
    "optimizer.learning_rate": 0.01,  # "set to 0.01"
    "optimizer.boundaries": [20_000, 40_000],  # "dropped by 10 times every 20K iterations"
    "optimizer.num_steps": 50_000,  # "trained up to 50K iterations"
    "optimizer.momentum": 0.9,  # [D]
    "optimizer.weight_decay": 0.0005,  # [D]
    "optimizer.weight_decay_of": "all",  # [D]: Caffe's habit
    "train.validate_every": 2_500,  # [D]
    "evaluation.protocol": "single-query",  # "we only show the single-query result"
    "evaluation.normalise": True,  # "After L2-normalization"
    "objective": "softmax",
    **_STEPS,
}
_BATCH_CONTRASTIVE = {
    "objective": "batch_contrastive",
    "loss.loss_weight": 1.0,  # "we set lambda = 1 in the final loss function"
    "loss.margin": 1.0,  # [D]: tau is not printed
    "loss.center_rate": 0.5,  # [D]: Wen et al.
    "loss.gradient": "autodiff",  # [D]: of Eq. 3
}

_ZHENG_ZHENG_AND_YANG = {
    "dataset": "market1501",
    "data.image_size": [256, 256],  # "We resize all the training images to 256x256"
    "data.flip": True,  # "and mirrored horizontally"
    "data.mean": "image",  # "The mean image computed from all the training images is subtracted"
    "optimizer.name": "sgd",  # "mini-batch stochastic gradient descent (SGD)"
    "optimizer.learning_rate": 0.001,  # "initialized as 0.001"
    "optimizer.momentum": 0.9,  # [C]
    "optimizer.weight_decay": 0.0005,  # [C]
    "optimizer.weight_decay_of": "all",  # [C]
    "sampler.name": "pair",
    # "the initial ratio ... is 1 : 1 ... multiple it by a factor of 1.01 every epoch until it
    # reaches 1 : 4"
    "sampler.ratio_rule": "paper",
    "sampler.negatives_per_positive": 1.0,
    "sampler.ratio_growth": 1.01,
    "sampler.ratio_limit": 4.0,
    "sampler.cross_camera": False,  # "sample another image from the same/different class"
    "train.validate_every": 2_500,  # [D]
    "evaluation.protocol": "single-query",
    "evaluation.normalise": True,  # "the feature is L2-normalized"
    "evaluation.num_repeats": 10,  # [C]: galleries of CUHK03
    "evaluation.test_mode": "single",  # "Given a 227x227 image, we feed forward"
    "objective": "identification_verification",
    # "a weight of 1 to the gradient produced by the verification loss and 0.5 for the two"
    "loss.verification_weight": 1.0,
    "loss.identification_weight": 0.5,
    "model.identification": True,
    "model.verification": "square",  # "Square Layer"
    "model.verification_dropout": "after_square",  # [C]
    **_STEPS,
}
_CAFFENET = {
    "model.name": "caffenet",
    "model.width": 96,
    "model.pooling": "fc",
    "model.dropout": 0.5,  # [C]
    "model.hidden_dropout": 0.5,  # [C]
    "data.crop_size": [227, 227],  # "randomly cropped to 227x227 for CaffeNet"
    "sampler.batch_size": 128,  # "set to 128 for CaffeNet"
    "optimizer.num_epochs": 155,  # "155 for CaffeNet"
    "optimizer.boundary_epochs": [150],  # "0.0001 for the final 5 epochs"
}
_VGG16 = {
    "model.name": "vgg16",
    "model.width": 64,
    "model.pooling": "fc",
    "model.dropout": 0.5,  # [C]
    "model.hidden_dropout": 0.5,  # [C]
    "data.crop_size": [224, 224],  # "we randomly crop images to 224x224"
    "sampler.batch_size": 48,  # "48 for VGG16 and ResNet-50"
    "optimizer.num_epochs": 65,  # "65 for VGG16net"
    "optimizer.boundary_epochs": [60],
}
_RESNET50 = {
    "model.name": "resnet50",
    "model.width": 64,
    "model.stride": "caffe",  # [C]
    "model.pooling": "average",
    "model.head_init_std": "uniform",  # [C]
    "model.dropout": 0.9,  # [C]
    "data.crop_size": [224, 224],
    "sampler.batch_size": 48,
    "optimizer.num_epochs": 75,  # "set to 75 for ResNet-50"
    "optimizer.boundary_epochs": [70],
}
_NETWORKS = {"caffenet": _CAFFENET, "vgg16": _VGG16, "resnet50": _RESNET50}
_I = {  # Single images, as many as there were pairs.
    "objective": "softmax",
    "model.verification": "",
    "sampler.name": "uniform",
    "sampler.ratio_rule": "fixed",
    "loss.verification_weight": None,
    "loss.identification_weight": None,
}
_V = {"model.identification": False, "loss.identification_weight": 0.0}
_ALONE = {  # [C]: "until convergence" in the paper
    "i": {"optimizer.num_epochs": 50, "optimizer.boundary_epochs": [45]},
    "v": {"optimizer.num_epochs": 95, "optimizer.boundary_epochs": [90]},
}
_CUHK03 = {
    "dataset": "cuhk03",
    "data.partition": "detected-1367-100",  # "1,367 persons and a testing set of 100", "by DPM"
    "evaluation.protocol": "single-shot-per-query",
}
_OXFORD = {
    "dataset": "landmarks",
    # "randomly cropped to 320x320 from 362x362 and mirrored horizontally"
    "data.image_size": [362, 362],
    "data.crop_size": [320, 320],
    "model.pooling": "max",  # "a MAC layer"
    "evaluation.protocol": "oxford5k",
    "evaluation.dataset": "oxford5k",
}

_CLEVER = {
    "dataset": "cuhk03",
    "data.partition": "detected-1160-100-100",  # "1160 persons will be used for training and 100"
    "data.image_size": [128, 48],  # "resized to 128x48"
    "data.mean": "image",  # "the mean of training images will be subtracted"
    "data.flip_or_shift": [6, 2],  # [C]
    "data.num_shifted": 3,  # [C]
    "data.from_scratch_std": 255.0,  # [C]: images in [0, 1]
    "model.name": "nine_conv",  # "nine convolutional layers and four max pooling layers"
    "model.width": 32,  # [C]
    "model.identification": True,
    "model.verification": "relu_diff",  # [C]
    "model.test_statistics": "batch",  # [C]
    "sampler.name": "pair",
    "sampler.batch_size": 100,  # "200, 100 images for positive pairs and the other for negative"
    "sampler.negatives_per_positive": 1.0,
    "sampler.cross_camera": True,  # "images of same identity coming from two cameras"
    "optimizer.name": "adam",  # [C]
    "optimizer.weight_decay": 0.001,  # [C]
    "optimizer.weight_decay_of": "kernels",  # [C]
    "optimizer.learning_rate": 0.001,  # "the initial learning rate is 0.001"
    "optimizer.num_steps": 25_000,  # "training iterations is 25k"
    "optimizer.boundaries": [22_000],  # "decayed by 0.1 after 22k iterations"
    "evaluation.protocol": "single-shot-one-direction",
    "evaluation.normalise": True,  # [C]
    "evaluation.batch_size": 100,
    "objective": "clever",
    "loss.identification_weight": 1.0,  # Eq. 8
    "loss.verification_weight": 1.0,  # Eq. 8
    "loss.center_rate": 0.5,  # "alpha is set as 0.5"
    "loss.intra_weight": 0.01,  # "beta and gamma are set as 0.01 and 0.008"
    "loss.inter_weight": 0.008,
    "loss.margin": 250.0,  # "The value of d is set as 250"
    "loss.inter_grad": "centers",  # [D]
    "loss.neg_updates_centers": True,  # "Negative pairs will also update their ... centers"
    **_STEPS,
}
_IC = {
    "objective": "identification_center",
    "model.verification": "",
    "sampler.name": "uniform",
    "sampler.cross_camera": False,
    "loss.center_weight": 0.01,  # [C]
    **{
        f"loss.{key}": None
        for key in (
            *("identification_weight", "verification_weight", "intra_weight", "inter_weight"),
            *("margin", "inter_grad", "neg_updates_centers"),
        )
    },
}
_FRW = {
    "model.feature_reweighting": True,
    "loss.reweighting_weight": 0.001,  # [C]
    "loss.reweighting_level": 200.0,  # [C]
}
_FINE_TUNED = {
    # [C], but for the half of the people: "randomly divide the individuals into two equal parts"
    "optimizer.learning_rate": 0.0001,
    "optimizer.boundaries": [],
    "optimizer.num_steps": 7_102,
    "optimizer.head_steps": 7_001,
    "data.flip_or_shift": [],
    "data.mean": "start",
    "data.images_per_camera": 1,
    "model.start_from": "runs/clever_pretrain",
    "model.start_exp": "clever_pretrain",
}
_CUHK01_HALVES = {"dataset": "cuhk01", "data.partition": "485-486"}
_VIPER_HALVES = {"dataset": "viper", "data.partition": "316-316"}
_FRW_START = {
    "model.start_from": "runs/clever_pretrain-row-frw_ic",
    "model.start_exp": "clever_pretrain:row=frw_ic",
}

_INHERENT = {
    "dataset": "pku_reid",
    "data.partition": "57-57",  # "57 individuals for training, and the rest ... 57"
    "data.image_size": [288, 144],  # [D]
    "data.crop_size": [256, 128],  # [D]; "Random horizontal flipping and cropping"
    "data.flip": True,
    "data.mean": "imagenet",
    "model.name": "resnet18",  # "ResNet18 ... pre-trained on ImageNet"
    "model.width": 64,
    "model.stride": "torchvision",
    "model.identification": True,
    "sampler.name": "uniform",
    "sampler.batch_size": 32,  # "the batch size and the learning rate are set to 32 and 2x10^-4"
    "optimizer.name": "adam",  # "The Adam solver"
    "optimizer.learning_rate": 0.0002,
    "optimizer.weight_decay": 0.0005,  # [D]; "L2 weight decay regularization"
    "optimizer.weight_decay_of": "kernels",  # [D]
    "optimizer.num_epochs": 300,  # "trained by 300 epochs"
    "evaluation.protocol": "single-query",
    "evaluation.normalise": False,  # "the sum of squared distances"
    "objective": "inherent",
    "loss.compact_weight": 0.00005,  # "beta and gamma ... are set to 5x10^-5 and 1x10^-6"
    "loss.scatter_weight": 0.000001,
    "loss.scatter_cap": 0.0,
    "loss.means": "exact",  # "calculated at the beginning of every batch"
    "loss.mean_rate": 0.5,  # [D], of means=ema
    "loss.reduction": "alike",  # [D]
    "loss.scatter_over": "all",  # "for each j != p"
    "train.log_every": 50,
    "train.checkpoint_every": 2_000,
}
_NO_MEANS = {
    f"loss.{key}": None
    for key in (
        *("compact_weight", "scatter_weight", "scatter_cap", "means", "mean_rate"),
        *("reduction", "scatter_over"),
    )
}
_HTRI = {
    **_NO_MEANS,
    "objective": "triplet",
    "model.identification": False,
    "loss.margin": 0.3,  # "The margin of the hard triplet loss is set to 0.3"
    "sampler.name": "identity",
    "sampler.images_per_identity": 4,  # [D]
}

_GUO_AND_CHEUNG = {
    "dataset": "cuhk03",
    "data.partition": "detected-1160-100-100",  # "1160 identities for training, 100 ... and 100"
    "data.image_size": [160, 60],  # "(60 x 160 x 3 in our experiments)"
    "data.flip_or_shift": [8, 3],  # [C] of [31]: 5 % of each side
    "data.num_shifted": 2,  # "We randomly sample 2 images for CUHK03 and 5 for others"
    "data.mean": "channel",  # [D]
    "model.name": "csn",
    "model.levels": "l2l3",
    "model.trunk": "prose",
    "model.sim_grid": "10x4",  # "the size of the similarity score maps is 10x4x1152"
    "model.dividing": True,
    "model.attention": "stn",
    "model.ranking": True,
    "model.correlation": "auto",
    "model.f4": 3,  # [D]
    "model.width": 96,  # Table 1: conv2 and conv3
    "sampler.name": "pair",
    "sampler.batch_size": 256,  # "256 for CUHK03 and 128 for other two datasets"
    "sampler.negatives_per_positive": 2.0,  # "two negative pairs for each positive pair"
    "sampler.cross_camera": True,  # [D]
    "optimizer.name": "adam",  # "ADAM"
    "optimizer.learning_rate": 0.0005,  # "with learning rate 0.0005"
    "optimizer.weight_decay": 0.0005,  # "Weighting decay is set to be 0.0005"
    "optimizer.weight_decay_of": "kernels",  # [D]
    "optimizer.num_epochs": 5,  # "We train the network for 5 epochs"
    "optimizer.epoch": "positive_pairs",  # [D]
    "objective": "csn",
    "loss.ranking_weight": 1.0,  # Eq. 6
    "loss.margin": 1.0,  # "alpha is the margin set to be 1.0"
    "loss.prior_weight": 0.1,  # [D]
    "loss.min_scale": 0.1,  # [D]
    "loss.limit": 1.0,  # "staying in the original images"
    "train.log_every": 50,
    "train.checkpoint_every": 1_000,
    "train.validate_every": 1_000,  # [D]
    "evaluation.protocol": "single-shot-one-direction",  # "single shot setting"
    "evaluation.batch_size": 100,
    "evaluation.pairs_per_block": 256,
    "evaluation.distance_weight": 0.2,  # "lambda is set to be 0.2 empirically"
    "evaluation.epsilon": 0.0001,  # "a small value like 0.0001"
}
_CSN_ROWS = {
    "": {},
    "row=cls": {
        "model.ranking": False,
        "loss.ranking_weight": 0.0,
        "evaluation.distance_weight": 0.0,
    },
    "row=l2": {"model.levels": "l2"},
    "row=l3": {"model.levels": "l3"},
    "row=l4": {"model.levels": "l4"},
    "row=l2l3l4": {"model.levels": "l2l3l4"},
    "row=l2l3l4_table5": {"model.levels": "l2l3l4", "model.trunk": "table5"},
    "row=c1": {"model.levels": "l2l3l4", "model.dividing": False},
    "row=c2": {
        "model.levels": "l2l3l4",
        "model.attention": "center_crop",
        "loss.prior_weight": 0.0,
    },
}
_LABELED = {"data.partition": "labeled-1160-100-100"}
_OTHERS = {"data.num_shifted": 5, "sampler.batch_size": 128, "train.validate_every": 0}
_SETS = {
    "csn_cuhk01": {"dataset": "cuhk01", "data.partition": "871-100", **_OTHERS},
    "csn_viper": {"dataset": "viper", "data.partition": "316-316", **_OTHERS},
}

# Not one of the five: comments are in short what the paper says, and no quotations.
_LUO_ET_AL = {
    "data.image_size": [256, 128],  # We resize each image into 256x128 pixels
    "data.shift": 10,  # pad the resized image 10 pixels ... randomly crop it
    "data.flip": True,  # flipped horizontally with 0.5 probability
    "data.erase": 0.5,  # we set p = 0.5
    "data.mean": "imagenet",
    "model.name": "resnet50",
    "model.width": 64,
    "model.stride": "torchvision",  # Of PyTorch's weights.
    "model.last_stride": 1,  # change the last spatial down-sampling ... from 2 to 1
    "model.neck": True,  # BNNeck
    "model.identification": True,
    "sampler.name": "identity",
    "sampler.batch_size": 64,  # P identities and K images ... P = 16 and K = 4
    "sampler.images_per_identity": 4,
    "optimizer.name": "adam",  # Adam method is adopted
    "optimizer.learning_rate": 0.00035,  # The initial learning rate is set to be 0.00035
    "optimizer.boundary_epochs": [40, 70],  # decreased by 0.1 at the 40th epoch and 70th epoch
    "optimizer.num_epochs": 120,  # Totally there are 120 training epochs
    "optimizer.warmup_epochs": 10,  # we spend 10 epochs linearly increasing
    "optimizer.warmup_start": 0.1,  # from 3.5x10^-5 to 3.5x10^-4
    "optimizer.weight_decay": 0.0005,  # [D]
    "evaluation.protocol": "single-query",
    "evaluation.normalise": True,  # cosine distance metric
    "objective": "strong",
    "loss.margin": 0.3,  # alpha is the margin of triplet loss ... set to 0.3
    "loss.triplet_weight": 1.0,
    "loss.label_smoothing": 0.1,  # epsilon is set to be 0.1
    "loss.center_weight": 0.0005,  # beta is the balanced weight ... 0.0005
    "loss.center_rate": 0.5,  # [D]
    "train.log_every": 50,
    "train.checkpoint_every": 2_000,
    "train.validate_every": 2_000,  # [D]
}
STRONG = {"strong_market": (0.945, 0.859), "strong_duke": (0.864, 0.764)}
"""rank-1 and mAP without re-ranking (Luo et al., Table 5)."""


def _rows(name, base, rows):
    return {f"{name}:{row}".removesuffix(":"): {**base, **own} for row, own in rows.items()}


def _of_network(network, loss):
    changes = dict(_NETWORKS[network])
    changes |= {"i": _I, "v": _V}.get(loss, {})
    if network == "resnet50":
        changes |= _ALONE.get(loss, {})
    row = [f"backbone={network}"] * (network != "resnet50") + [f"loss={loss}"] * (loss != "iv")
    return ",".join(row), changes


_I_AND_IV = dict(_of_network(network, loss) for network in _NETWORKS for loss in ("i", "iv"))
_CONTRASTIVE = {
    **_RESNET50,
    "objective": "identification_contrastive",
    "model.verification": "none",
    "loss.verification_weight": None,
    "loss.contrastive_weight": 1.0,  # [D]
    "loss.margin": 1.0,  # [D]
}

CONSTANTS = {
    **_rows("softmax_market", _ZHANG_AND_XU, {"": {"dataset": "market1501"}}),
    **_rows("softmax_duke", _ZHANG_AND_XU, {"": {"dataset": "dukemtmc"}}),
    **_rows(
        "batch_contrastive_market",
        _ZHANG_AND_XU | _BATCH_CONTRASTIVE,
        {"": {"dataset": "market1501"}},
    ),
    **_rows(
        "batch_contrastive_duke",
        _ZHANG_AND_XU | _BATCH_CONTRASTIVE,
        {"": {"dataset": "dukemtmc"}},
    ),
    **_rows(
        "identif_verif_market",
        _ZHENG_ZHENG_AND_YANG,
        {
            **_I_AND_IV,
            **dict(_of_network(network, "v") for network in _NETWORKS),
            "loss=contrastive": _CONTRASTIVE,
            "test_mode=dense_flip": {**_RESNET50, "evaluation.test_mode": "dense_flip"},
            "ratio_rule=code,mean=channel,test_mode=dense_flip": {
                **_RESNET50,
                "evaluation.test_mode": "dense_flip",
                "data.mean": "channel",
                "sampler.ratio_rule": "code",
            },
        },
    ),
    **_rows("identif_verif_duke", _ZHENG_ZHENG_AND_YANG | {"dataset": "dukemtmc"}, {"": _RESNET50}),
    **_rows("identif_verif_cuhk03", _ZHENG_ZHENG_AND_YANG | _CUHK03, _I_AND_IV),
    **_rows(
        "identif_verif_oxford",
        _ZHENG_ZHENG_AND_YANG,
        {row: own | _OXFORD for row, own in _I_AND_IV.items() if row != "loss=i"},
    ),
    **_rows(
        "clever_cuhk03",
        _CLEVER,
        {
            "": {},
            "row=ic": _IC,
            "row=frw_ic": {**_IC, **_FRW},
            "row=intra_i": {"loss.verification_weight": 0.0, "loss.inter_weight": 0.0},
            "row=iv": {
                "loss.verification_weight": 0.5,  # [C]
                "loss.intra_weight": 0.0,
                "loss.inter_weight": 0.0,
            },
            "row=intra_iv": {"loss.inter_weight": 0.0},
            "row=inter_iv": {"loss.intra_weight": 0.0},
            "row=clever_i": {"loss.verification_weight": 0.0},
        },
    ),
    # "pre-trained on CUHK03 and Market1501 at first"
    "clever_pretrain": _CLEVER | _VIPER_HALVES | {"data.joined": ["cuhk03", "market1501"]},
    **_rows(
        "clever_cuhk01",
        _CLEVER | _CUHK01_HALVES | _FINE_TUNED,
        {"": {}, "row=frw_ic": {**_IC, **_FRW, **_FRW_START}},
    ),
    **_rows(
        "clever_viper",
        _CLEVER | _VIPER_HALVES | _FINE_TUNED,
        {"": {}, "row=frw_ic": {**_IC, **_FRW, **_FRW_START}},
    ),
    **_rows(
        "inherent_pku",
        _INHERENT,
        {
            "": {},
            "row=set2": {"loss.scatter_weight": 0.0},
            "row=set1": {**_NO_MEANS, "objective": "softmax"},
            "row=resnet18_htri": _HTRI,
            "row=resnet50_htri": {**_HTRI, "model.name": "resnet50"},
        },
    ),
    **_rows("csn_cuhk03", _GUO_AND_CHEUNG, _CSN_ROWS),
    **{
        f"csn_cuhk03:{','.join(filter(None, ('images=labeled', row)))}": {
            **_GUO_AND_CHEUNG,
            **_CSN_ROWS[row],
            **_LABELED,
        }
        for row in ("", "row=l2l3l4", "row=l2l3l4_table5")
    },
    **{
        f"{name}:{row}".removesuffix(":"): {**_GUO_AND_CHEUNG, **_CSN_ROWS[row], **own}
        for name, own in _SETS.items()
        for row in ("", "row=l2l3l4", "row=l2l3l4_table5")
    },
    **_rows("strong_market", _LUO_ET_AL, {"": {"dataset": "market1501"}}),
    **_rows("strong_duke", _LUO_ET_AL, {"": {"dataset": "dukemtmc"}}),
}
