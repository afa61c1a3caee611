package protocol

import (
	"context"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/core/policy/internal/policypb"
)

// Version of the protocol. A program of another version is refused by the handshake.
const Version = 1

// MaxMessage is how many bytes a question or an answer may have.
const MaxMessage = 256 << 20

// Kind is what a program decides.
type Kind string

// Kinds, by which programs are also dispensed.
const (
	Kernel       Kind = "kernel"  // a KernelPolicy
	Instructions Kind = "handler" // a Handler
)

// KernelPolicy says where redirection begins in a kernel. Errors are those of the connection. It is safe for concurrent
// use.
type KernelPolicy interface {
	Describe(ctx context.Context, k policy.Kernel) (policy.Policy, error)
}

// Handler says what happens at sites: a plan for each, in their order. It says the same about the same site. Errors are those of the connection. It is safe for
// concurrent use. Answers that came over a connection are as the other side sent them: whoever asked checks that they are
// right.
type Handler interface {
	// Interests says about which sites of its category it is to be asked; none: about no site.
	Interests(ctx context.Context) ([]policy.Interest, error)
	Plan(ctx context.Context, sites []policy.Site) ([]policy.Plan, error)
}

// Handshake returns what tells a program that emu has started it, and not a person.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{MagicCookieKey: "EMU_POLICY_PLUGIN", MagicCookieValue: "redirectability"}
}

// Plugins returns what go-plugin needs to know, by version. The side that asks needs no implementations; the side that
// answers has one of them.
func Plugins(k KernelPolicy, h Handler) map[int]plugin.PluginSet {
	return map[int]plugin.PluginSet{Version: {
		string(Kernel):       &kernelPlugin{impl: k},
		string(Instructions): &handlerPlugin{impl: h},
	}}
}

type kernelPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	impl KernelPolicy
}

// GRPCServer registers the implementation, if this program has it.
func (p *kernelPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	if p.impl != nil {
		policypb.RegisterKernelPolicyServer(s, &kernelServer{impl: p.impl})
	}
	return nil
}

// GRPCClient returns a KernelPolicy.
func (p *kernelPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return &kernelClient{policypb.NewKernelPolicyClient(c)}, nil
}

type kernelServer struct {
	policypb.UnimplementedKernelPolicyServer
	impl KernelPolicy
}

func (s *kernelServer) Describe(ctx context.Context, k *policypb.Kernel) (*policypb.Policy, error) {
	p, err := s.impl.Describe(ctx, kernelFromProto(k))
	if err != nil {
		return nil, err
	}
	return policyToProto(&p), nil
}

type kernelClient struct{ c policypb.KernelPolicyClient }

func (c *kernelClient) Describe(ctx context.Context, k policy.Kernel) (policy.Policy, error) {
	m, err := c.c.Describe(ctx, kernelToProto(k), grpc.MaxCallRecvMsgSize(MaxMessage))
	if err != nil {
		return policy.Policy{}, err
	}
	return policyFromProto(m), nil
}

type handlerPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	impl Handler
}

// GRPCServer registers the implementation, if this program has it.
func (p *handlerPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	if p.impl != nil {
		policypb.RegisterHandlerServer(s, &handlerServer{impl: p.impl})
	}
	return nil
}

// GRPCClient returns a Handler.
func (p *handlerPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return &handlerClient{policypb.NewHandlerClient(c)}, nil
}

type handlerServer struct {
	policypb.UnimplementedHandlerServer
	impl Handler
}

func (s *handlerServer) Interests(ctx context.Context, _ *policypb.About) (*policypb.InterestList, error) {
	interests, err := s.impl.Interests(ctx)
	if err != nil {
		return nil, err
	}
	return interestsToProto(interests), nil
}

func (s *handlerServer) Plan(ctx context.Context, m *policypb.Sites) (*policypb.Plans, error) {
	sites, err := sitesFromProto(m)
	if err != nil {
		return nil, err
	}
	plans, err := s.impl.Plan(ctx, sites)
	if err != nil {
		return nil, err
	}
	return plansToProto(plans), nil
}

type handlerClient struct{ c policypb.HandlerClient }

// Interests of a program of before there were any is everything.
func (c *handlerClient) Interests(ctx context.Context) ([]policy.Interest, error) {
	m, err := c.c.Interests(ctx, &policypb.About{}, grpc.MaxCallRecvMsgSize(MaxMessage))
	if status.Code(err) == codes.Unimplemented {
		return []policy.Interest{{}}, nil
	}
	if err != nil {
		return nil, err
	}
	return interestsFromProto(m), nil
}

func (c *handlerClient) Plan(ctx context.Context, sites []policy.Site) ([]policy.Plan, error) {
	m, err := c.c.Plan(ctx, sitesToProto(sites), grpc.MaxCallRecvMsgSize(MaxMessage))
	if err != nil {
		return nil, err
	}
	return plansFromProto(m)
}
