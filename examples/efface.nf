// Nextflow: one job a subject, then the group level. Not run by us: see examples/README.md.
//   nextflow run examples/efface.nf --bids /data/bids --out /data/out --methods quickshear,pydeface
params.methods = 'all'

process PARTICIPANT {
    cpus 2
    memory '4 GB'
    input: val subject
    output: path "part-${subject}"
    script:
    "efface study ${params.bids} part-${subject} participant --participant-label ${subject} --methods ${params.methods} --jobs 1"
}

process GROUP {
    input: path parts
    script: // the parts are merged, and the participant level finds all of it done
    """
    mkdir -p ${params.out} && cp -a part-*/. ${params.out}/
    efface study ${params.bids} ${params.out} participant --methods ${params.methods}
    efface study ${params.bids} ${params.out} group
    """
}

workflow {
    PARTICIPANT(Channel.fromPath("${params.bids}/sub-*", type: 'dir').map { it.name - 'sub-' }) | collect | GROUP
}
