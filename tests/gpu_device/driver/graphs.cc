// Graphs of the stand-in driver. Of those that XLA builds nodes are counted, and kernels among them at each launch; the
// work of those that are captured is done at each launch.
#include <utility>

#include "driver.h"

struct CUgraph_st {
  size_t nodes = 0, kernels = 0;
  Work captured;
};

struct CUgraphExec_st {
  size_t kernels;
  Work captured;
};

namespace {

CUresult Add(CUgraph graph, CUgraphNode* node, bool is_kernel) {
  ++graph->nodes;
  graph->kernels += is_kernel;
  // Only ever a name for the node.
  *node = reinterpret_cast<CUgraphNode>(graph->nodes);
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

CUresult cuStreamIsCapturing(CUstream, CUstreamCaptureStatus* status) {
  CALL(0);
  *status = CU_STREAM_CAPTURE_STATUS_NONE;
  return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode) {
  CALL(0);
  stream->capture = std::make_unique<Work>();
  return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  CALL(0);
  if (stream->capture == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  *graph = new CUgraph_st;
  (*graph)->captured = std::move(*stream->capture);
  stream->capture.reset();
  return CUDA_SUCCESS;
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode*) {
  CALL(0);
  return CUDA_SUCCESS;
}

CUresult cuGraphCreate(CUgraph* graph, unsigned) {
  CALL(0);
  *graph = new CUgraph_st;
  return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph) {
  CALL(0);
  delete graph;
  return CUDA_SUCCESS;
}

CUresult cuGraphAddKernelNode(CUgraphNode* node, CUgraph graph, const CUgraphNode*, size_t,
                              const CUDA_KERNEL_NODE_PARAMS*) {
  CALL(0);
  return Add(graph, node, true);
}

CUresult cuGraphAddEmptyNode(CUgraphNode* node, CUgraph graph, const CUgraphNode*, size_t) {
  CALL(0);
  return Add(graph, node, false);
}

CUresult cuGraphAddMemcpyNode(CUgraphNode* node, CUgraph graph, const CUgraphNode*, size_t, const CUDA_MEMCPY3D*,
                              CUcontext) {
  CALL(0);
  return Add(graph, node, false);
}

CUresult cuGraphAddMemsetNode(CUgraphNode* node, CUgraph graph, const CUgraphNode*, size_t,
                              const CUDA_MEMSET_NODE_PARAMS*, CUcontext) {
  CALL(0);
  return Add(graph, node, false);
}

CUresult cuGraphAddChildGraphNode(CUgraphNode* node, CUgraph graph, const CUgraphNode*, size_t, CUgraph child) {
  CALL(0);
  graph->kernels += child->kernels;
  return Add(graph, node, false);
}

CUresult cuGraphKernelNodeSetAttribute(CUgraphNode, CUkernelNodeAttrID, const CUkernelNodeAttrValue*) {
  CALL(0);
  return CUDA_SUCCESS;
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode*, size_t* count) {
  CALL(0);
  *count = graph->nodes;
  return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long) {
  CALL(0);
  *exec = new CUgraphExec_st{graph->kernels, graph->captured};
  return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  CALL(0);
  delete exec;
  return CUDA_SUCCESS;
}

CUresult cuGraphUpload(CUgraphExec, CUstream) {
  CALL(0);
  return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream) {
  CALL(0);
  for (size_t i = 0; i < exec->kernels; ++i) stand_in_count("kernel in a graph", 0);
  for (const auto& piece : exec->captured) {
    if (const CUresult result = piece()) return result;
  }
  return CUDA_SUCCESS;
}

CUresult cuGraphExecUpdate(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo* info) {
  CALL(0);
  exec->kernels = graph->kernels;
  info->result = CU_GRAPH_EXEC_UPDATE_SUCCESS;
  return CUDA_SUCCESS;
}

CUresult cuGraphExecKernelNodeSetParams(CUgraphExec, CUgraphNode, const CUDA_KERNEL_NODE_PARAMS*) {
  CALL(0);
  return CUDA_SUCCESS;
}

CUresult cuGraphExecMemcpyNodeSetParams(CUgraphExec, CUgraphNode, const CUDA_MEMCPY3D*, CUcontext) {
  CALL(0);
  return CUDA_SUCCESS;
}

CUresult cuGraphExecMemsetNodeSetParams(CUgraphExec, CUgraphNode, const CUDA_MEMSET_NODE_PARAMS*, CUcontext) {
  CALL(0);
  return CUDA_SUCCESS;
}

CUresult cuGraphExecChildGraphNodeSetParams(CUgraphExec, CUgraphNode, CUgraph) {
  CALL(0);
  return CUDA_SUCCESS;
}

CUresult cuGraphNodeSetEnabled(CUgraphExec, CUgraphNode, unsigned) {
  CALL(0);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetGraphMemAttribute(CUdevice, CUgraphMem_attribute, void* value) {
  CALL(0);
  *static_cast<cuuint64_t*>(value) = 0;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGraphMemTrim(CUdevice) {
  CALL(0);
  return CUDA_SUCCESS;
}

}  // extern "C"
