"""OTDF's files with a known address and checksum: what `otdf:hopper-gravity-0.5-medium` names.

Only the files' addresses, sizes and SHA-256 are here. The files themselves carry no licence and are not part of
tabb: they are fetched from where their authors published them.
"""

from __future__ import annotations

from tabb.data.published_file import Published

OTDF_ADDRESS = "https://github.com/dmksjfl/OTDF/raw/41e2e626844bd6b65e2316a418ce4d6df4bbe775/datasets"
"""The OTDF authors' repository at the commit whose files the checksums below are of."""


def published_otdf() -> list[Published]:
    """Every file of OTDF, in the order of the authors' robots and tasks."""
    return [_entry(*line.split()) for line in _OTDF.strip().splitlines()]


def _entry(sha256: str, size: str, stem: str) -> Published:
    quality = next(quality for quality in ("medium_expert", "medium", "expert") if stem.endswith(f"_{quality}"))
    task = stem.removesuffix(f"_{quality}").replace("_", "-")
    file = f"{stem}.hdf5"
    return Published(f"otdf:{task}-{quality}", task, quality, file, f"{OTDF_ADDRESS}/{file}", int(size), sha256)


# SHA-256, bytes, name of the file without `.hdf5`
_OTDF = """
    0fe41f8cfe9364e8d61ebbcd54714ce6dce85b41ff69e7018c6a6c7fb2c544b6 509209 hopper_gravity_0.5_expert
    827ad7f2a64801d797a7b0b4920fd856ce1071ba00fbed5e09a55f2819f263a7 510917 hopper_gravity_0.5_medium
    05c760ed47b3f015b6d7c6d094d22b1c69202992e9707f74858d8e489ea2e8ac 447982 hopper_gravity_0.5_medium_expert
    07717b41f8e64d06dc890021b12b3196121ad98780bd3ce793b2e79b28eeaa7d 516789 hopper_kinematic_expert
    9852f7a254595a804be1486d22d1428aee082826d1875726cfafde996b86551a 516154 hopper_kinematic_medium
    c225011c78e268e427a4229c86141a86deef456e8f18ecde04c4c4b48aec58d2 515578 hopper_kinematic_medium_expert
    0aaf26e0551111c4420abb4e2785e545a184dea1f9f498c14223d8c25574676a 514139 hopper_morph_expert
    135d69d7ae3d20d179219b0ae4f489d77e29b651375a7e66f4a3f1b5d85cd7bb 514336 hopper_morph_medium
    a594d3cb9a629d1dcded66c3537013e8699e68a9f952417ee8fb8ed5ed97d20e 446561 hopper_morph_medium_expert
    f75125ed80852a6855a4316b3ba4b1762c4bac2575fb8f058c02138f65649bde 792805 halfcheetah_gravity_0.5_expert
    e78575924145cd27532a1add69dcd6da3861a5fb958182fc46fd8884097b464d 795044 halfcheetah_gravity_0.5_medium
    239bc9c9d2f8248bb45fdc1634e8a263fd71fc1f2a9141c604e2e1fdd6f0071a 797165 halfcheetah_gravity_0.5_medium_expert
    06dbcf21937b1a7a5a57b0e21be36437dc336a62ee31b75824da9752a67323c3 793352 halfcheetah_kinematic_expert
    c12a9b355541709ce1e6138e30b124bcb635b628273b57872916183de1712b22 800310 halfcheetah_kinematic_medium
    b4c8f6001d1c7bcb6e3930e9365414713ff838423527e2037fd83ec7cb8348af 794900 halfcheetah_kinematic_medium_expert
    e023f77478cf206c2235ae1648b3e49dc09988c0f0a34cd2e9d6eb01170a2772 795630 halfcheetah_morph_expert
    cef4f47e21df3cb2d5f50f288af75b6736a20b73c5eb63d2f5fa62fc1550a6b0 794090 halfcheetah_morph_medium
    4c82052933bbaa8e9d6389a6cfe8b35067aead8f1d43b966538c5813d1b1359a 794081 halfcheetah_morph_medium_expert
    3524350db887e4b1362d1e64b3f1fa7a7b3ead098c2d1cbde7300481e7a23fb3 786291 walker2d_gravity_0.5_expert
    46be0e8f4fac6c4634da2b32c2dcdb57afb57f0d488104ce3bf4610980948dd0 778558 walker2d_gravity_0.5_medium
    569fb555c35297edfb6ff19a0bcaffb44fb80589c4bc1bf7c88567183eca374d 753493 walker2d_gravity_0.5_medium_expert
    71b0f787bd48cc699552fc7f121f6f33ab58e6e5e905578e0f0a8fed84042fc6 785988 walker2d_kinematic_expert
    dd03cd6418d139f440c51461165c18cb81f7d726c48c1dce12ab04bf463554be 794223 walker2d_kinematic_medium
    34821cb72e53c2173ad7a53c583b7696386fb0cdfd8477a5802a4e1d030d1092 709268 walker2d_kinematic_medium_expert
    c4d56179e6e506a4167a13b253598786d42036c2ff1ad62d04c3c8b83765f856 782356 walker2d_morph_expert
    c792b159e403d9deff9316964f0b5ae191a382533693a553abb5b3167463f80a 785756 walker2d_morph_medium
    3bbafe690a89bb15cd03596e085cf7c9cbe974aa535cae8c9afe2d46aae44753 568642 walker2d_morph_medium_expert
    6edcb14395e03334038232454e7f89067e5d85d9f665f2cd907e790b3e0c0cda 1236249 ant_gravity_0.5_expert
    4bf33524bfd0771589475bf6fba09f68a79d6a3ce572599f3f31ac9b58692dbd 1164857 ant_gravity_0.5_medium
    ffb334b4814048ed2ddd80d4063b4bc837d0114a6d4cdb2cb0709b18fd516f91 779929 ant_gravity_0.5_medium_expert
    02213b065b39870a8d7e5f55dbae031d645539c381fb6b2ff5233f2a9edac4b4 1247131 ant_kinematic_expert
    3f35217192a01095d391b7253841e866f737e52dc0b75a7f51e60b7defb01169 1246214 ant_kinematic_medium
    ebb1b49199bfc106539e637099ba42ef9c05c63c436b1d5c38139fdf2969587a 1242776 ant_kinematic_medium_expert
    f4f1291e1412ee79100087a3eebb7c570cf926582ebaee6d7a848fe376b3f3ac 1238387 ant_morph_expert
    c4cf609a54afcb757d53c57dd3781736a93b0df41b1658cdf680a1a2cde06814 1237863 ant_morph_medium
    a16903f578646f0b81d064cb15c963c996e3486bc3db5a8a457c08de3eececdc 1233960 ant_morph_medium_expert
"""
