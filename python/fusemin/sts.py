"""`tfp.sts` with fusemin: `fit_with_hmc`, whose variational fit takes its steps by `fusemin.minimize`.

>>> import inspect, fusemin
>>> list(inspect.signature(fusemin.sts.fit_with_hmc).parameters)[:2]
['model', 'observed_time_series']
"""

import tensorflow_probability as tfp

from fusemin.api.tfp_replacement import with_fusemin

__all__ = ["fit_with_hmc"]

fit_with_hmc = with_fusemin(tfp.sts.fit_with_hmc)
