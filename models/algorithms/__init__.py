"""Ways to train together other than lockstep gradient steps (`models.training`), and what a site may do alone.

| file       | holds                                                                               | noise        |
|------------|-------------------------------------------------------------------------------------|--------------|
| protection | which algorithm may run with whose noise; what results say of it                    |              |
| partial    | Cox's partial likelihood as sums: stratified by site, or on a public grid           | none         |
| newton     | its exact maximum, and the survival model made of it                                | none         |
| averaging  | FedAvg and FedProx rounds                                                           | local, none  |
| local      | local steps as Gaussian mechanisms: what one upload costs, exact noise, the proof   | local        |
| chosen     | the one that a study names: constants as JSON, queries, how a site takes part       |              |
| personal   | a head of one's own on a released model; never leaves                               | –            |
"""
