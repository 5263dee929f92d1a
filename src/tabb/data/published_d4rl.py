"""D4RL's files with a known address and checksum: what `d4rl:hopper-medium-v2` names.

Sizes and SHA-256 are those that TensorFlow Datasets checks its own downloads of the same addresses by. The files of
Adroit's relocate, and the play data of the medium maze, have none there; those are found on disk, not fetched.
"""

from __future__ import annotations

from tabb.data.published_file import Published

ADDRESS = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
"""D4RL's own server; it does not speak https, hence the checksums"""
MAZES = {
    "antmaze-umaze-v2": "u-maze_noisy_multistart_False_multigoal_False",
    "antmaze-umaze-diverse-v2": "u-maze_noisy_multistart_True_multigoal_True",
    "antmaze-medium-diverse-v2": "big-maze_noisy_multistart_True_multigoal_True",
    "antmaze-large-play-v2": "hardest-maze_noisy_multistart_True_multigoal_False",
    "antmaze-large-diverse-v2": "hardest-maze_noisy_multistart_True_multigoal_True",
}
"""what tells the files of mazes apart"""


def published_d4rl() -> list[Published]:
    """Every file of D4RL with a known checksum."""
    return [_entry(folder, *line.split()) for folder, lines in _FILES.items() for line in lines.strip().splitlines()]


def _entry(folder: str, sha256: str, size: str, stem: str) -> Published:
    file = f"{stem}.hdf5"
    if stem in MAZES:
        file = f"Ant_maze_{MAZES[stem]}_sparse_fixed.hdf5"
    name = stem.replace("_", "-")
    task, _, rest = name.partition("-")
    quality = rest.rpartition("-v")[0].replace("-", "_")
    address = f"{ADDRESS}/{folder}/{file}"
    return Published(f"d4rl:{name}", task, quality, file, address, int(size), sha256, "source", "d4rl")


# SHA-256, bytes, name of the file without `.hdf5`; of mazes that of the data set
_FILES = {
    "gym_mujoco_v2": """
        63103ef7059db4c0819bd054f4e83ff339030b50bcdb46bdbe50385f234b5054 152525345 hopper_random-v2
        5bdf1bc4a713c82941de44633df669b36c89850b652a25985166796d25cf71a0 152756557 hopper_medium-v2
        e121c5f7c9857a307baa9edc6a2c3b48e85fedb9ac316ecddd0f48ca7ef4e39b 75854457 hopper_medium_replay-v2
        56baf95963c51c1e964049a974566c50ba80f289390565523e60c0ba83e0982e 187998921 hopper_full_replay-v2
        9d51ad87f8c905be3880d84c6140bcdb7fbf39a19e046a237f238ba34fec9e26 304537315 hopper_medium_expert-v2
        01aa219a5f8eea5e639eccdc636ec2bf40e317159a95cf4bf6e985f16909941b 152427435 hopper_expert-v2
        25407aef85b5d16c0f36b4149341edb4acc6a9e88c1db529b2de19e7464874ba 237338037 halfcheetah_random-v2
        41324e8487a9556d8cfa4538827f8937f4d63dae3030825ebc9f3a726ed08ca0 237727262 halfcheetah_medium-v2
        48d494a4770c11f48260736dec090b78bdca8375647ed4d24bfa5b6610c7f683 59448533 halfcheetah_medium_replay-v2
        27fdf7ea86e5a2cbd24d611ae9e703c86ec2e8e52823abc69dd9af6afb3a36c0 291381762 halfcheetah_full_replay-v2
        015db75dae5bbe8e94029b71fa0bafc2073365df0c94744e71031189f3f79c06 474567252 halfcheetah_medium_expert-v2
        d9fe53bb994eb1e20a99b4fa3412cd76a1bb7966a7ff55e0fcbdd6081bd2965f 237464597 halfcheetah_expert-v2
        4e863bb6090cf4a461548bd470564b32f1ae5b32ef3085f816b2ede7f092e7fa 216109364 walker2d_random-v2
        cf00f43add04c17fdfc2958dd581dea0851b2e5bedbe6fda073758a8f841aeda 232254996 walker2d_medium-v2
        e75de96a4f77acf7d4e0d6fdf0d7ccb177c26c44bb4388e4fd99f543ccfa18db 86323963 walker2d_medium_replay-v2
        f2720f9d27b2acef6ec9a7d9ad3b80b6c2078ad4467cee668a81e3b3c80bcf2a 285115514 walker2d_full_replay-v2
        6b8d7f868c45bbaedf460be797fb7271b46dee6ebe45fe7a64319f2005b59a04 462197079 walker2d_medium_expert-v2
        2985dc3d436a8baa10e8f43f946fe1d7c6337a4e4fbc65def70618093b18c59a 230567195 walker2d_expert-v2
        93cc10893eed2b8e17f81d1aa51dc23d27c5ca101a3804249f6bd038c6f06055 384466831 ant_random-v2
        461c03b9f70f40d66b47608a92965e4ef3642bd9cdb1320d10acc92754167137 376239825 ant_medium-v2
        844c4e5743ef51091f2106a3570b257fb149032c4743f8a5f02f40adc3b42a46 136482252 ant_medium_replay-v2
        b95b0a7f34b1d5d1bedfded0f8e9cfc508b59de83cd4cbfb65b18dbd5056f26c 449390167 ant_full_replay-v2
        8cfb64e62d8944b5d9dada5f0cfc13a295fafe0c6ba58b778e32ebf16c95aef1 748335217 ant_medium_expert-v2
        fa22531ca79ea051006fa48bb652120d2e12c813919c530369a03c2688311b0f 373231677 ant_expert-v2
    """,
    "hand_dapg_v1": """
        209e345b2150b633f30a11612612c60f49e941f127ce6c4dc0cd790501c46f9f 2040573 pen-human-v1
        6d1a982cee1950501bedebbddedbcbb377e6284d379986c83abac8a6c0be0c22 155074191 pen-cloned-v1
        3791b8ca6a802061770af2977c051ac3ae261488210ce73788760a5b8308f374 262040663 pen-expert-v1
        f9691288c3ddf2b4e7b31bdae0d8444b80ba035515495f8a902d60c43ee09370 3121206 door-human-v1
        1f6a60ecc4d2a2e5c02f41dd3412be61bb265a33dcf120ceee9e9682d4fe4d48 294356136 door-cloned-v1
        66df4cd4e0a1e0b72ea72653ce088e29ecbfa99bac3cd2b52e64092e9a0aaab4 536056678 door-expert-v1
        3e42f3f49b5c92a901601dfe867c6c62a9651cbe79f6760ec8b402a15816a498 5606475 hammer-human-v1
        e48d75b159bdd72f51d3f01448d3eca4d38275714e11e995c14a36f6cf159db3 446616879 hammer-cloned-v1
        1c069a0f6e4852493023c77dc3b3a12d8d5ac2e3a034827fea3ab8a161e7185f 557047483 hammer-expert-v1
    """,
    "ant_maze_v2": """
        5ef15257771c50ef4d23c7de001750e96c8bb5d9b6a5e4a821dcfb3065fbd130 232532949 antmaze-umaze-v2
        c771dd63963cd7d9f55f24a6d809064f6b82250a6aeac4c9d13f9a1d06e8c932 230854272 antmaze-umaze-diverse-v2
        ad9dcbac05d1f8744a7a216083f513662f43f64f28a4a5eb225e9811902dfae7 231095166 antmaze-medium-diverse-v2
        6d353df2457829925d7f9d4b0215587469908bd57478ea76f16417cfa944f471 230880653 antmaze-large-play-v2
        84f775eb7956ea9cc766704710dc520a8ab357adc7522ade47f556f0e335e284 231183710 antmaze-large-diverse-v2
    """,
}
